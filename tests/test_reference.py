"""The documented settings are those that the code has."""

from pathlib import Path

from app.reference import settings_page
from app.settings import ROOT, Settings

PAGE = ROOT / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), (
        "run `python -m app.reference > docs/settings.md`"
    )


def test_every_setting_is_described() -> None:
    page = settings_page()
    for name, field in Settings.model_fields.items():
        assert f"`XMORE_{name.upper()}`" in page
        assert field.description


def test_no_path_of_the_machine_that_wrote_it_stands_on_the_page() -> None:
    assert str(Path(ROOT)) not in settings_page()
