"""The report: what is written says what the fits say, and the page does what it offers, in a headless Chromium (those
tests skip where playwright or Chromium is not installed)."""

import base64
import json
import re
from dataclasses import replace
from urllib.parse import urlparse

import cv2
import numpy as np
import pytest
import torch

from benchmarks.report_page import chromium, made_up_people, made_up_run
from fitter.body.model import load_body
from fitter.write.layout import PANEL_PX, panels
from fitter.write.overlay import Clothes, overlay
from fitter.write.rejection import read_decisions
from fitter.write.report import CELL_PX, STEP_M, row_of_pictures, write_report
from fitter.write.result import fit_id, load_fit, save_fit

PHOTOS = 30  # 60 people


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run of 60 people with its report; every fourth is doubtful."""
    out = tmp_path_factory.mktemp("streets <b>")
    assert made_up_run(out, PHOTOS) == 60
    assert write_report(out) == out / "report.html"
    return out


@pytest.fixture(scope="module")
def run(out):
    """What people.js says."""
    return json.loads((out / "report" / "people.js").read_text().removeprefix("RUN = "))


def view_of(out, row):
    text = (out / "report" / "people" / f"{row['file']}.js").read_text()
    return json.loads(re.fullmatch(r'VIEW\("[\w-]+", (.*)\);\n', text)[1])


def test_the_page_needs_nothing_but_its_folder(out):
    for path in (
        out / "report.html",
        *(out / "report" / name for name in ("page.css", "page.js", "person.js")),
    ):
        text = path.read_text()
        assert "://" not in text, path.name
        for link in re.findall(r'(?:src|href)="([^"]+)"', text):
            assert (out / link).is_file()


def test_everybodys_numbers_are_in_the_page(out, run):
    rows = [json.loads(line) for line in (out / "summary.jsonl").read_text().splitlines()]
    people = run["people"]
    assert [(one["image"], one["person"], one["valid"]) for one in people] == [
        (row["image"], row["person"], row["valid"]) for row in rows
    ]
    for number, key in (("energy_pose", "energy_pose"), ("reprojection_pct", "reprojection_pct")):
        np.testing.assert_allclose(run["numbers"][number], [row[key] for row in rows], rtol=1e-3)
    assert run["numbers"]["joints_seen"] == [24 - len(row["guessed"]) - len(row["outside"]) for row in rows]
    assert [one["name"] for one in people[:4]] == ["p00000_0", "p00001_0", "p00001_1", "p00002_0"]
    assert people[3]["reasons"] == ["largest |beta| 3.4 > 3"] and run["settings"]["weights"] == {"pose": 10.0}


def test_a_persons_own_file_holds_their_body_and_photo(out, run):
    row = run["people"][5]
    view, fit, body = view_of(out, row), load_fit(out / f"{row['name']}.npz"), load_body()
    assert row["fit"] == fit_id(fit) and row["fit"] != fit_id(replace(fit, betas=fit.betas + 0.01))
    packed = np.frombuffer(base64.b64decode(view["vertices"]), "<u2").reshape(-1, 3)
    vertices = np.array(view["low_m"]) + packed * view["step_m"]
    with torch.no_grad():
        posed = body(torch.tensor(fit.betas[None]), torch.tensor(fit.pose[None])).vertices[0].numpy()
    np.testing.assert_allclose(vertices, posed + fit.transl_cam, atol=0.51 * STEP_M)
    faces = re.fullmatch(r'FACES = "(.*)";\n', (out / "report" / "faces.js").read_text())[1]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(faces), "<u4").reshape(-1, 3), body.faces)
    photo = base64.b64decode(view["photo"].removeprefix("data:image/jpeg;base64,"))
    height, width = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    x0, y0, x1, y1 = view["photo_box_px"]
    assert width / height == pytest.approx((x1 - x0) / (y1 - y0), rel=0.02)
    assert x0 <= fit.box_px[0] and y1 >= min(fit.box_px[3], fit.image_size_px[1])
    assert view["inputs"] == fit.inputs and fit.inputs["photo"]["sha256"] == fit.name


@pytest.mark.parametrize("people", [1, 4, 5])
def test_panels_are_where_the_overlay_has_them(people):
    """Each person alone in their own colour: their side view is where it is said to be, in one row and in two."""
    body = load_body()
    fits = made_up_people("a", people, body, np.random.default_rng(0))
    photo = np.full((640, 480, 3), 90, np.uint8)
    rgb = np.broadcast_to([0.2, 0.5, 0.8], (people, len(fits[0].vertices_cam), 3))
    clothes = Clothes(np.full((640, 480), 5, np.uint8), rgb)
    for known in (None, clothes):
        picture = overlay(photo, fits, body.faces.numpy(), known)
        found = panels((480, 640), people, known is not None)
        assert picture.shape[1::-1] == found.size and (found.labels is None) == (known is None)
        x0, y0, x1, y1 = found.photo
        assert (picture[y0:y1, x0:x1] == 90).all() and y1 - y0 == PANEL_PX
        for x0, y0, x1, y1 in found.sides:
            tile = picture[y0:y1, x0:x1].astype(int)
            assert (tile[2, 2] == 255).all() and (tile.min(-1) < 200).any(0)[5:-5].any()
            covered = np.flatnonzero((tile.min(-1) < 200).any(1))
            assert covered[0] < 0.1 * len(tile) and covered[-1] > 0.9 * len(tile)  # a whole body fills it


def test_a_row_of_pictures_is_of_that_person():
    fits = made_up_people("a", 2, load_body(), np.random.default_rng(0))
    found = panels((480, 640), 2, True)
    picture = np.zeros((*found.size[::-1], 3), np.uint8)
    for value, panel in enumerate((found.photo, found.over, *found.sides, found.labels), 1):
        picture[panel[1] : panel[3], panel[0] : panel[2]] = 10 * value
    at = fits[1].keypoints_px[:24].mean(0) * PANEL_PX / 640 + found.photo[:2]
    picture[int(at[1]) - 9 : int(at[1]) + 9, int(at[0]) - 9 : int(at[0]) + 9] = (
        250  # the second's middle, in the photo
    )
    height, cell = CELL_PX
    first, second = (row_of_pictures(picture, fit, place) for place, fit in enumerate(fits))
    assert first.shape == second.shape == (height, 4 * cell, 3)
    for row, side in ((first, 30), (second, 40)):
        assert [int(row[20, (2 * k + 1) * cell // 2, 0]) for k in range(4)] == [10, 20, side, 50]
    marked = np.argwhere(second[:, :cell, 0] == 250).mean(0)
    np.testing.assert_allclose(marked, [height / 2, cell / 2], atol=0.15 * height)


def test_what_is_unchanged_is_kept_and_what_is_gone_goes(tmp_path):
    made_up_run(tmp_path, 3)
    folder = tmp_path / "report" / "people"
    write_report(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 2 * 6
    other = tmp_path / "overlays" / "p00001.jpg"
    cv2.imwrite(str(other), cv2.imread(str(other)), [cv2.IMWRITE_JPEG_QUALITY, 50])
    (tmp_path / "p00002_1.npz").unlink()
    write_report(tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(after) == 2 * 5
    assert len(before.items() & after.items()) == 2 * 3  # p00000_0, p00002_0 and _2


def test_without_overlays_the_page_has_bodies_alone(tmp_path):
    made_up_run(tmp_path, 2)
    for path in (tmp_path / "overlays").iterdir():
        path.unlink()
    page = write_report(tmp_path)
    rows = json.loads((tmp_path / "report" / "people.js").read_text().removeprefix("RUN = "))["people"]
    assert page.is_file() and [row["cells"] for row in rows] == [0, 0, 0]
    view = view_of(tmp_path, rows[0])
    assert "photo" not in view and view["vertices"] and not list((tmp_path / "report").rglob("*.jpg"))


def test_a_picture_that_is_no_overlay_is_left_out(tmp_path):
    made_up_run(tmp_path, 2)
    (tmp_path / "overlays" / "p00000.jpg").write_bytes(b"no picture")
    other = cv2.imencode(".jpg", np.zeros((PANEL_PX, 400, 3), np.uint8))[1].tobytes()
    (tmp_path / "overlays" / "p00001.jpg").write_bytes(other)  # too narrow for two side views
    write_report(tmp_path)
    rows = json.loads((tmp_path / "report" / "people.js").read_text().removeprefix("RUN = "))["people"]
    assert [row["cells"] for row in rows] == [0, 0, 0]


def test_fits_of_another_body_are_said(tmp_path):
    made_up_run(tmp_path, 1)
    fit = replace(load_fit(tmp_path / "p00000_0.npz"), body_model="SMPL_FEMALE")
    save_fit(tmp_path / "p00000_0.npz", fit)
    with pytest.raises(ValueError, match="p00000_0 is of 'SMPL_FEMALE'; give its file with --body"):
        write_report(tmp_path)


def test_a_folder_without_fits_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected results of fit.py \(\*.npz\), found none"):
        write_report(tmp_path)


# ---- in the browser


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright and Chromium")
    with api.sync_playwright() as playwright:
        try:
            browser = chromium(playwright)
        except api.Error as error:
            pytest.skip(f"needs Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, out):
    """The page, opened from disk without a network; an error or a request for anything else fails the test."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 900}, offline=True, reduced_motion="reduce"
    )
    tab = context.new_page()
    wrong = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on(
        "request", lambda one: urlparse(one.url).scheme in ("file", "data", "blob") or wrong.append(one.url)
    )
    tab.goto((out / "report.html").as_uri())
    yield tab
    context.close()
    assert not wrong


def names(tab):
    """Those in sight, in their order."""
    return tab.evaluate(
        """() => [...document.querySelectorAll(".card")].sort((a, b) => a.offsetTop - b.offsetTop
        || a.offsetLeft - b.offsetLeft).map((card) => card.querySelector(".lines div > div").textContent)"""
    )


def chosen(tab):
    return tab.locator(".card.chosen .lines div > div").first.text_content()


def by(run, number, down=False):
    values = run["numbers"][number]
    order = sorted(range(len(values)), key=lambda at: ((-values[at] if down else values[at]), at))
    return [run["people"][at]["name"] for at in order]


def test_it_opens_with_those_in_sight_alone(tab, out, run):
    assert tab.text_content("#counts") == "60 people, 15 doubtful"
    assert tab.text_content("#title") == out.name  # which is no markup
    assert names(tab)[:3] == ["p00000_0", "p00001_0", "p00001_1"] and len(names(tab)) < 40
    tab.wait_for_function("() => document.querySelector('img.strip').naturalWidth > 0")
    tab.evaluate("() => { const s = document.getElementById('scroller'); s.scrollTop = s.scrollHeight; }")
    tab.wait_for_function("() => document.body.textContent.includes('p00029_2')")
    assert "p00000_0" not in names(tab)


def test_sort(tab, run):
    for number in ("energy", "reprojection_pct", "joints_seen", "energy_mc"):
        tab.select_option("#sort", number)
        assert names(tab)[:9] == by(run, number)[:9]
    tab.click("#turn")
    assert names(tab)[:9] == by(run, "energy_mc", down=True)[:9]


def test_filter(tab, run):
    people, energy = run["people"], run["numbers"]["energy"]
    tab.select_option("#valid", "0")
    assert tab.text_content("#counts") == "15 of 60 people, 15 doubtful"
    tab.click("#clear")
    tab.select_option("#reason", label="largest |beta| … > … (15)")
    assert names(tab)[:2] == [one["name"] for one in people if not one["valid"]][:2]
    tab.click("#clear")
    tab.select_option("#joint", label="left knee")
    seen = sum(one["states"][4] == "2" for one in people)
    assert tab.text_content("#counts").startswith(f"{seen} of 60")
    tab.click("#clear")
    tab.fill("#text", "p00007")
    assert names(tab) == ["p00007_0", "p00007_1"]
    tab.fill("#text", "")
    tab.select_option("#sort", "energy")
    tab.fill("#least", "100")
    tab.fill("#most", "200")
    expected = [
        name for name in by(run, "energy") if 100 <= energy[[p["name"] for p in people].index(name)] <= 200
    ]
    assert names(tab)[: len(expected)][:9] == expected[:9]
    assert tab.text_content("#counts").startswith(f"{len(expected)} of 60")
    tab.fill("#text", "nobody of this name")
    assert tab.is_visible("#nobody") and names(tab) == []


def test_a_range_is_dragged_on_the_histogram(tab, run):
    tab.select_option("#sort", "energy")
    box = tab.locator("#histogram").bounding_box()
    tab.mouse.move(box["x"] + 1, box["y"] + 9)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 9)
    tab.mouse.up()
    energy = np.array(run["numbers"]["energy"])
    most = float(tab.input_value("#most"))
    assert most == pytest.approx((energy.min() + energy.max()) / 2, rel=0.02)
    shown = int(tab.text_content("#counts").split(" of ")[0])
    assert shown == np.sum((energy >= float(tab.input_value("#least"))) & (energy <= most))


def test_decide_by_click_and_find_it_again(tab, run, tmp_path):
    tab.click("[aria-label='reject p00001_0']")
    tab.click("[aria-label='accept p00001_1']")
    tab.click("[aria-label='accept p00002_0']")
    tab.click("[aria-label='accept p00002_0']")  # again: undecided
    assert tab.text_content("#decided") == "1 accepted, 1 rejected"
    tab.reload()
    assert tab.text_content("#decided") == "1 accepted, 1 rejected"
    assert tab.locator(".card.reject .lines div > div").first.text_content() == "p00001_0"
    tab.select_option("#decision", "accept")
    assert names(tab) == ["p00001_1"]
    with tab.expect_download() as download:
        tab.click("#download")
    assert download.value.suggested_filename == "decisions.json"
    path = tmp_path / "decisions.json"
    download.value.save_as(path)
    ids = {one["name"]: one["fit"] for one in run["people"]}
    assert read_decisions(path) == {ids["p00001_0"]: "reject", ids["p00001_1"]: "accept"}
    assert json.loads(path.read_text())["decisions"] == [
        {"name": "p00001_0", "fit": ids["p00001_0"], "decision": "reject"},
        {"name": "p00001_1", "fit": ids["p00001_1"], "decision": "accept"},
    ]
    tab.evaluate("() => localStorage.clear()")
    tab.reload()
    assert tab.text_content("#decided") == "" and tab.is_disabled("#download")
    tab.set_input_files("#load", path)
    tab.wait_for_function("() => document.getElementById('decided').textContent === '1 accepted, 1 rejected'")


def test_two_tabs_share_their_decisions_and_lose_none(tab, out):
    other = tab.context.new_page()
    other.goto((out / "report.html").as_uri())
    tab.click("[aria-label='reject p00001_0']")
    other.wait_for_function(
        "() => document.getElementById('decided').textContent === '0 accepted, 1 rejected'"
    )
    other.click("[aria-label='accept p00001_1']")
    tab.wait_for_function("() => document.getElementById('decided').textContent === '1 accepted, 1 rejected'")


def test_decisions_of_another_run_are_said(tab, tmp_path):
    said = []
    tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.accept()))
    for rows in ([{"fit": "0123456789abcdef", "decision": "reject"}], [{"fit": "a", "decision": "maybe"}]):
        (tmp_path / "d.json").write_text(json.dumps({"decisions": rows}))
        with tab.expect_event("dialog"):
            tab.set_input_files("#load", tmp_path / "d.json")
    assert said[0] == "1 of 1 decisions are about other fits than these" and "decision maybe" in said[1]
    assert tab.text_content("#decided") == ""


def test_decide_all_shown(tab):
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.select_option("#valid", "0")
    tab.select_option("#bulk", "reject")
    assert tab.text_content("#decided") == "0 accepted, 15 rejected"
    tab.select_option("#valid", "1")
    assert tab.locator(".card.reject").count() == 0


def test_keyboard(tab):
    columns = tab.evaluate("() => columns")
    assert columns == 3 and chosen(tab) == "p00000_0"
    for keys, expected in (
        ("ArrowRight", "p00001_0"), ("ArrowDown", "p00002_1"), ("ArrowUp", "p00001_0"), ("ArrowLeft", "p00000_0"),
        ("r", "p00001_0"), ("a", "p00001_1"), ("ArrowLeft", "p00001_0"), ("u", "p00001_0"), ("End", "p00029_2"),
        ("Home", "p00000_0"),
    ):  # fmt: skip
        tab.keyboard.press(keys)
        assert chosen(tab) == expected, keys
    assert tab.text_content("#decided") == "0 accepted, 1 rejected"
    tab.keyboard.press("Enter")
    assert tab.is_visible("#person") and tab.text_content("#who") == "p00000_0"
    tab.keyboard.press("ArrowRight")
    assert tab.text_content("#who") == "p00001_0"
    tab.keyboard.press("a")
    assert tab.text_content("#who") == "p00001_1"
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#person") and tab.text_content("#decided") == "1 accepted, 1 rejected"
    tab.keyboard.press("/")
    tab.keyboard.type("p00003")
    assert tab.input_value("#text") == "p00003" and names(tab) == ["p00003_0"]
    tab.keyboard.press("Escape")
    tab.keyboard.press("?")
    assert tab.is_visible("#help")


def test_undecided_people_go_as_they_are_decided(tab):
    tab.select_option("#decision", "undecided")
    tab.locator("#scroller").focus()
    for name in ("p00000_0", "p00001_0"):
        assert chosen(tab) == name
        tab.keyboard.press("r")
    assert chosen(tab) == "p00001_1" and tab.text_content("#counts").startswith("58 of 60")


def shares(tab, selector):
    """Of a canvas on the screen, how much is unlike its corner."""
    picture = cv2.imdecode(
        np.frombuffer(tab.locator(selector).screenshot(), np.uint8), cv2.IMREAD_COLOR
    ).astype(int)
    return (np.abs(picture - picture[6, 6]).max(-1) > 20).mean()


def test_one_persons_view(tab, out, run):
    tab.locator("img.strip").nth(3).click()
    facts = tab.locator("#facts")
    facts.get_by_text("What was read").wait_for()
    text = facts.inner_text()
    for part in (
        "p00002.jpg",
        "doubtful",
        "largest |beta| 3.4 > 3",
        "Energy by term",
        "mc",
        "detector",
        "open_body",
    ):
        assert part in text
    facts.get_by_text("Settings").click()
    assert "weights.pose: 10" in facts.inner_text()
    tab.wait_for_function("() => scene !== null && overlay.complete")
    tab.wait_for_timeout(300)
    before = tab.locator("#picture").screenshot()
    assert shares(tab, "#picture") > 0.2 and shares(tab, "#body") > 0.1
    tab.uncheck("#plane")
    front = shares(tab, "#body")
    assert 0.02 < front < 0.6  # a body and the floor, without the photo
    tab.keyboard.press("2")
    side = tab.locator("#body").screenshot()
    tab.keyboard.press("3")
    assert tab.locator("#body").screenshot() != side
    tab.keyboard.press("o")
    assert tab.locator("#picture").screenshot() != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(tab, scheme):
    tab.emulate_media(color_scheme=scheme)

    def brightness(what):
        colour = tab.evaluate(f"() => getComputedStyle(document.body).{what}")
        return np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]])

    back, text = brightness("backgroundColor"), brightness("color")
    assert (back > 200 and text < 80) if scheme == "light" else (back < 60 and text > 180)


def test_a_narrow_window(tab):
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.wait_for_function("() => columns === 1")
    wide = "() => document.documentElement.scrollWidth <= 390 && document.getElementById('scroller').scrollWidth <= 390"
    assert tab.evaluate(wide)
    card = tab.locator(".card").first.bounding_box()
    assert card["x"] >= 0 and card["x"] + card["width"] <= 390
    tab.locator("img.strip").first.click()
    tab.get_by_text("What was read").wait_for()
    first, second = (tab.locator(name).bounding_box() for name in ("#picture", "#body"))
    assert second["y"] > first["y"] + first["height"] and first["width"] > 300
    assert tab.evaluate("() => document.getElementById('person').scrollWidth <= 390")
    tab.click("#close")
    assert not tab.is_visible("#person")
