// Step 2 of the method, as app/xmore/ensemble.py has it: from the votes in one answer of the server
// to the answer for any number of captions and any fusion mode, without asking again.

export const FUSIONS = {
  confidence: "Each of the two counts by its confidence. This is X-MoRe.",
  product: "The image decides, tilted by a tenth of what the captions say.",
  mean: "Each of the two counts half.",
  image: "The image alone decides. This is plain CLIP.",
  text: "The captions alone decide.",
};

const PRODUCT_TEXT_WEIGHT = 0.1;
const SMALLEST = 2.2250738585072014e-308;

/** 1 - H(p) / ln C, in [0, 1]; 1 where there is one label. */
export function confidence(probabilities) {
  if (probabilities.length === 1) return 1;
  const entropy = probabilities.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);
  return Math.min(1, Math.max(0, 1 - entropy / Math.log(probabilities.length)));
}

function weights(image, text, fusion) {
  if (fusion === "product") return [1 - PRODUCT_TEXT_WEIGHT, PRODUCT_TEXT_WEIGHT];
  if (fusion === "image") return [1, 0];
  if (fusion === "text") return [0, 1];
  const total = image + text;
  if (fusion === "mean" || total === 0) return [0.5, 0.5];
  return [image / total, text / total];
}

/** The weighted geometric mean of both votes. */
function product(image, text, ofImage, ofText) {
  const log = (p) => Math.log(Math.max(p, SMALLEST));
  const logs = image.map((p, c) => ofImage * log(p) + ofText * log(text[c]));
  const most = Math.max(...logs);
  const odds = logs.map((x) => Math.exp(x - most));
  const sum = odds.reduce((a, b) => a + b, 0);
  return odds.map((odd) => odd / sum);
}

/**
 * The answer for one image when its best `k` captions vote.
 *
 * `result` is an entry of the server's `results`, asked for with `votes` and the most captions;
 * `labels` are those of the request, in its order.
 */
export function fuse(result, labels, k, fusion) {
  const captions = result.captions.slice(0, k);
  const given = new Map(result.predictions.map((p) => [p.label, p.image_probability]));
  const image = labels.map((label) => given.get(label));
  const text = labels.map((label) =>
    captions.reduce((sum, caption) => sum + caption.votes[label] / captions.length, 0),
  );
  const voted = captions.length > 0;
  const confidences = [confidence(image), voted ? confidence(text) : 0];
  const [ofImage, ofText] = voted ? weights(...confidences, fusion) : [1, 0];
  const fused =
    voted && fusion === "product"
      ? product(image, text, ofImage, ofText)
      : image.map((p, c) => ofImage * p + ofText * text[c]);
  const predictions = labels.map((label, c) => ({
    label,
    probability: fused[c],
    image: image[c],
    text: voted ? text[c] : null,
  }));
  predictions.sort((a, b) => b.probability - a.probability);
  return {
    predictions,
    captions,
    image: { confidence: confidences[0], weight: ofImage },
    text: { confidence: confidences[1], weight: ofText },
  };
}
