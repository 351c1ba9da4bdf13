# syntax=docker/dockerfile:1
# xmore on CPU: a slim image, a user without rights, the model and captions of the repository inside.
FROM python:3.11-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# Dependencies change less often than code, so they get layers of their own.
WORKDIR /src
COPY requirements.lock ./
# torch and torchvision from PyTorch's own CPU index, in the locked versions: a matching pair,
# without CUDA's gigabytes. Another index of PyTorch's has them for a GPU; docs/production.md says more.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -E '^torch(vision)?==' requirements.lock > torch.txt \
    && pip install --index-url "$TORCH_INDEX" --requirement torch.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --requirement requirements.lock \
    && pip check

COPY pyproject.toml README.md LICENSE ./
COPY app ./app
RUN pip install --no-cache-dir --no-deps .

FROM python:3.11-slim

# OpenMP, which torch and FAISS link against.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home xmore \
    # A volume mounted here takes over its owner, so weights can be downloaded without root.
    && install --directory --owner=xmore /home/xmore/.cache

COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XMORE_HOST=0.0.0.0 \
    XMORE_PORT=8000 \
    XMORE_MODEL=local-dir:/srv/xmore/models/mini \
    XMORE_INDEX=/srv/xmore/index_data/default

WORKDIR /srv/xmore
COPY models ./models
COPY index_data ./index_data

USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["xmore", "serve"]
