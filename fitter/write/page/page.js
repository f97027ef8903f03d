// The gallery: which people are shown and in what order, cards for those in sight alone, decisions.
"use strict";

const $ = (id) => document.getElementById(id);
const NAMES = {
  trust: "probability of being right", joints_seen: "joints seen", reprojection_pct: "reprojection error, % of box", keypoints_confident: "confident keypoints",
  size_px: "size in the photo, px", distance_m: "distance, m", pose_energy: "pose energy", pose_percentile: "pose percentile",
  max_abs_beta: "largest |beta|", energy: "energy", energy_start: "energy at the start", parser_confidence: "parser's confidence",
  camera_pitch_deg: "camera pitch, °", camera_roll_deg: "camera roll, °", depth_spread_mm: "depth left open, mm",
  depth_surprise: "depth's surprise", lifter_apart_deg: "limbs from the lifter's, °",
};
const KEY = "dsr-report "; // and a fit: runs and tabs beside each other do not touch each other's decisions
const people = RUN.people, numbers = RUN.numbers;
const cells = RUN.cells, GAP = 12, CARD_PX = 350, LINES_PX = 50;
let shown = people.map((_, at) => at), chosen = 0, columns = 1, upwards = true;
let decisions = stored();

function stored() {
  const found = {};
  try {
    for (const one of people) {
      const decision = localStorage.getItem(KEY + one.fit);
      if (decision) found[one.fit] = decision;
    }
  } catch { /* forbidden: decisions last as long as the page */ }
  return found;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function nameOf(metric) {
  return NAMES[metric] || (metric.startsWith("energy_") ? `energy: ${metric.slice(7)}` : metric.replaceAll("_", " "));
}

function format(value) {
  if (value === null || value === undefined) return "–";
  return Number.isInteger(value) ? String(value) : String(+value.toPrecision(4));
}

/** A reason without its numbers, so that people who share it are one group. */
function kindOf(reason) {
  return reason.replace(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/g, "…");
}

function decisionOf(at) {
  return decisions[people[at].fit] || "undecided";
}

function decide(rows, decision) {
  for (const at of rows) {
    const fit = people[at].fit;
    if (decision === "undecided") delete decisions[fit];
    else decisions[fit] = decision;
    try {
      decision === "undecided" ? localStorage.removeItem(KEY + fit) : localStorage.setItem(KEY + fit, decision);
    } catch { /* full or forbidden: download still works */ }
  }
}

/** Decides the chosen person; on to the next where `go`. */
function decideChosen(decision, go) {
  if (!shown.length) return;
  const at = shown[chosen];
  decide([at], decision);
  update();
  const still = shown[chosen] === at;
  choose(Math.min(chosen + (go && still ? 1 : 0), shown.length - 1));
  if ($("person").open) shown.length ? openPerson() : $("person").close();
}

/** Filters and sorts again; the chosen place stays. */
function update() {
  const text = $("text").value.trim().toLowerCase(), valid = $("valid").value, decision = $("decision").value;
  const reason = $("reason").value, joint = $("joint").value, metric = $("sort").value;
  const values = numbers[metric], least = parseFloat($("least").value), most = parseFloat($("most").value);
  const before = people.map((_, at) => at).filter((at) => {
    const one = people[at];
    return (!text || `${one.image} ${one.name} ${one.reasons.join(" ")}`.toLowerCase().includes(text))
      && (!valid || one.valid === (valid === "1"))
      && (!decision || decisionOf(at) === decision)
      && (!reason || one.reasons.some((own) => kindOf(own) === reason))
      && (!joint || one.states[joint] === "2");
  });
  shown = before.filter((at) => !values || !((values[at] ?? NaN) < least || (values[at] ?? NaN) > most
    || (values[at] === null && (least === least || most === most))));
  const sign = upwards ? 1 : -1;
  if (values) {
    shown.sort((a, b) => values[a] === null || values[b] === null
      ? (values[a] === null) - (values[b] === null) || a - b : sign * (values[a] - values[b]) || a - b);
  } else if (!upwards) shown.reverse();
  chosen = Math.max(0, Math.min(chosen, shown.length - 1));
  $("range").hidden = !values;
  if (values) drawHistogram(before.map((at) => values[at]).filter((value) => value !== null), least, most);
  $("clear").hidden = !(text || valid || decision || reason || joint || least === least || most === most);
  const doubtful = people.filter((one) => !one.valid).length;
  $("counts").textContent = (shown.length < people.length ? `${shown.length} of ` : "")
    + `${people.length} people, ${doubtful} doubtful`;
  const made = people.map((_, at) => decisionOf(at));
  const accepted = made.filter((one) => one === "accept").length, rejected = made.filter((one) => one === "reject").length;
  $("decided").textContent = accepted + rejected ? `${accepted} accepted, ${rejected} rejected` : "";
  $("download").disabled = !(accepted + rejected);
  $("nobody").hidden = shown.length > 0;
  layout(true);
}

let histogram = null;

function drawHistogram(values, least, most) {
  const canvas = $("histogram"), bins = 50, context = canvas.getContext("2d");
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  histogram = values.length && high > low ? { low, high } : null;
  const style = getComputedStyle(document.documentElement);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!histogram) return;
  const counts = new Array(bins).fill(0), place = (value) => Math.min(bins - 1, Math.floor((value - low) / (high - low) * bins));
  for (const value of values) counts[place(value)]++;
  const top = Math.max(...counts), width = canvas.width / bins;
  counts.forEach((count, bin) => {
    const from = low + bin / bins * (high - low), to = low + (bin + 1) / bins * (high - low);
    context.fillStyle = style.getPropertyValue(to < least || from > most ? "--line" : "--bar");
    const height = count ? Math.max(2, Math.sqrt(count / top) * canvas.height) : 0;
    context.fillRect(bin * width, canvas.height - height, width - 1, height);
  });
}

// ---- cards: only those in sight are in the document

const cards = new Map();

function layout(anew = false) {
  const width = $("grid").clientWidth;
  columns = Math.max(1, Math.floor((width + GAP) / (Math.min(CARD_PX, width) + GAP)));
  const card = (width - (columns - 1) * GAP) / columns, picture = Math.round(card * 224 / (168 * cells));
  const row = picture + LINES_PX + GAP, scroller = $("scroller");
  $("grid").style.height = `${Math.ceil(shown.length / columns) * row}px`;
  const top = scroller.scrollTop - row, bottom = scroller.scrollTop + scroller.clientHeight + row;
  const first = Math.max(0, Math.floor(top / row)) * columns, last = Math.min(shown.length, Math.ceil(bottom / row) * columns);
  const wanted = new Set(shown.slice(first, last));
  for (const [at, element] of cards) {
    if (!wanted.has(at)) { element.remove(); cards.delete(at); }
  }
  for (let place = first; place < last; place++) {
    const at = shown[place];
    let element = cards.get(at);
    if (!element) cards.set(at, element = makeCard(at));
    if (!element.isConnected) $("grid").append(element);
    if (anew) fillCard(element, at);
    Object.assign(element.style, {
      left: `${place % columns * (card + GAP)}px`, top: `${Math.floor(place / columns) * row}px`,
      width: `${card}px`, height: `${picture + LINES_PX}px`,
    });
    element.querySelector(".strip").style.height = `${picture}px`;
    const is = place === chosen;
    element.classList.toggle("chosen", is);
    element.setAttribute("aria-selected", is);
  }
}

function makeCard(at) {
  const one = people[at];
  const picture = one.cells
    ? make("img", { className: "strip", decoding: "async", loading: "lazy", alt: `${one.name}: photo, body, side view, labels`,
      src: `report/people/${one.file}.jpg` })
    : make("div", { className: "strip" });
  const choose = make("div", { className: "choose" });
  for (const [decision, sign] of [["accept", "✓"], ["reject", "✗"]]) {
    const button = make("button", { textContent: sign, title: decision, tabIndex: -1 });
    button.dataset.decide = decision;
    button.setAttribute("aria-label", `${decision} ${one.name}`);
    choose.append(button);
  }
  const element = make("article", { className: "card" }, picture,
    make("div", { className: "lines" }, make("div", {}, make("div"), make("div")), choose));
  element.setAttribute("role", "option");
  element.dataset.at = at;
  fillCard(element, at);
  return element;
}

function fillCard(element, at) {
  const one = people[at], decision = decisionOf(at), metric = $("sort").value;
  element.classList.toggle("accept", decision === "accept");
  element.classList.toggle("reject", decision === "reject");
  for (const button of element.querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.decide === decision);
  const [name, below] = element.querySelectorAll(".lines div > div");
  name.textContent = name.title = one.name;
  const value = numbers[metric] ? `${format(numbers[metric][at])} – ${nameOf(metric)}` : `${numbers.joints_seen[at]} of 24 joints seen`;
  below.replaceChildren(...(one.valid ? [] : [make("span", { className: "doubt", textContent: one.reasons.join("; ") || "doubtful" }), " · "]),
    make("span", { className: "quiet", textContent: value }));
  below.title = below.textContent;
}

/** Chooses a place among those shown and brings it in sight. */
function choose(place) {
  chosen = Math.max(0, Math.min(place, shown.length - 1));
  layout();
  const element = cards.get(shown[chosen]);
  if (element) return element.scrollIntoView({ block: "nearest" });
  const rows = Math.ceil(shown.length / columns);
  $("scroller").scrollTop = Math.floor(chosen / columns) / rows * $("grid").clientHeight - $("scroller").clientHeight / 3;
  layout();
}

function openPerson() {
  showPerson(shown[chosen]);
}

// ---- files

function download() {
  const rows = people.flatMap((one, at) => decisionOf(at) === "undecided" ? []
    : [{ name: one.name, fit: one.fit, decision: decisionOf(at) }]);
  const blob = new Blob([JSON.stringify({ run: RUN.run, decisions: rows }, null, 1) + "\n"], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(blob), download: "decisions.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function load(file) {
  try {
    const rows = JSON.parse(await file.text()).decisions, places = new Map(people.map((one, at) => [one.fit, at]));
    const wrong = rows.find((row) => !["accept", "reject"].includes(row.decision));
    if (wrong) throw new Error(`decision ${wrong.decision}`);
    for (const row of rows) if (places.has(row.fit)) decide([places.get(row.fit)], row.decision);
    update();
    const others = rows.filter((row) => !places.has(row.fit)).length;
    if (others) alert(`${others} of ${rows.length} decisions are about other fits than these`);
  } catch (error) {
    alert(`${file.name}: expected a decisions.json that was downloaded here, got: ${error.message}`);
  }
}

// ---- what the user does

const MOVES = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns, ArrowDown: () => columns,
  Home: () => -Infinity, End: () => Infinity, PageUp: () => -3 * columns, PageDown: () => 3 * columns };
const DECIDE = { a: "accept", r: "reject", u: "undecided" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const target = event.target, inside = $("person").open;
  if (target.matches("input:not([type=checkbox]), select")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  if (event.key in MOVES) {
    let move = MOVES[event.key]();
    if (inside) move = Math.sign(move);
    const place = chosen + move;
    if (Number.isFinite(move) && Math.abs(move) > 1 && (place < 0 || place >= shown.length) && !event.key.startsWith("Page")) return event.preventDefault();
    choose(Math.max(0, Math.min(place, shown.length - 1)));
    if (inside) openPerson();
  } else if (event.key in DECIDE) decideChosen(DECIDE[event.key], event.key !== "u");
  else if (event.key === "Enter" && !inside && !target.matches("button, summary, label")) { if (shown.length) openPerson(); }
  else if (event.key === "/" && !inside) $("text").focus();
  else if (event.key === "?") $("help").showModal();
  else if (!(inside && personKey(event.key))) return;
  event.preventDefault();
});

$("grid").addEventListener("click", (event) => {
  const element = event.target.closest(".card");
  if (!element) return;
  const at = +element.dataset.at, decision = event.target.dataset.decide;
  choose(shown.indexOf(at));
  if (decision) decideChosen(decisionOf(at) === decision ? "undecided" : decision, false);
  else if (event.target.matches(".strip")) openPerson();
});
$("person").addEventListener("click", (event) => {
  const decision = event.target.dataset.decide;
  if (decision) decideChosen(decisionOf(shown[chosen]) === decision ? "undecided" : decision, false);
});
for (const [id, move] of [["previous", -1], ["next", 1]]) {
  $(id).addEventListener("click", () => { choose(chosen + move); openPerson(); });
}
for (const id of ["text", "least", "most"]) $(id).addEventListener("input", () => { chosen = 0; update(); });
for (const id of ["valid", "decision", "reason", "joint"]) $(id).addEventListener("change", () => { chosen = 0; $("scroller").scrollTop = 0; update(); });
$("sort").addEventListener("change", () => { $("least").value = $("most").value = ""; chosen = 0; $("scroller").scrollTop = 0; update(); });
$("turn").addEventListener("click", () => { upwards = !upwards; $("turn").textContent = upwards ? "↑" : "↓"; update(); });
$("clear").addEventListener("click", () => {
  for (const id of ["text", "valid", "decision", "reason", "joint", "least", "most"]) $(id).value = "";
  update();
});
$("bulk").addEventListener("change", () => {
  const decision = $("bulk").value;
  $("bulk").value = "";
  if (decision && confirm(`${decision} for all ${shown.length} people shown?`)) { decide(shown, decision); update(); }
});
$("download").addEventListener("click", download);
$("load").addEventListener("change", () => { load($("load").files[0]); $("load").value = ""; });
$("keys").addEventListener("click", () => $("help").showModal());
window.addEventListener("storage", () => { decisions = stored(); update(); }); // of another tab
$("scroller").addEventListener("scroll", () => layout(), { passive: true });
new ResizeObserver(() => layout()).observe($("scroller"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { update(); if ($("person").open) openPerson(); });

let dragged = null;
const valueAt = (event) => {
  const box = $("histogram").getBoundingClientRect(), share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  return +(histogram.low + share * (histogram.high - histogram.low)).toPrecision(4);
};
$("histogram").addEventListener("pointerdown", (event) => {
  if (!histogram) return;
  dragged = valueAt(event);
  $("histogram").setPointerCapture(event.pointerId);
});
$("histogram").addEventListener("pointermove", (event) => {
  if (dragged === null) return;
  const other = valueAt(event);
  if (other === dragged) return;
  $("least").value = Math.min(dragged, other);
  $("most").value = Math.max(dragged, other);
  chosen = 0;
  update();
});
$("histogram").addEventListener("pointerup", () => { dragged = null; });
$("histogram").addEventListener("dblclick", () => { $("least").value = $("most").value = ""; update(); });

// ---- begin

document.title = `${RUN.title} – fits`;
$("title").textContent = RUN.title;
const kinds = {};
for (const one of people) for (const kind of new Set(one.reasons.map(kindOf))) kinds[kind] = (kinds[kind] || 0) + 1;
for (const [kind, count] of Object.entries(kinds).sort((a, b) => b[1] - a[1])) {
  $("reason").append(make("option", { value: kind, textContent: `${kind} (${count})` }));
}
RUN.joints.forEach((joint, at) => $("joint").append(make("option", { value: at, textContent: joint.replaceAll("_", " ") })));
$("sort").append(make("option", { value: "", textContent: "photo" }));
for (const metric of Object.keys(numbers)) {
  if (numbers[metric].some((value) => value !== numbers[metric][0])) {
    $("sort").append(make("option", { value: metric, textContent: nameOf(metric) }));
  }
}
if (RUN.not_fitted.length) {
  $("skipped").hidden = false;
  $("skipped").querySelector("summary").textContent = `${RUN.not_fitted.length} photos were not fitted`;
  $("skipped").querySelector("ul").append(...RUN.not_fitted.slice(0, 1000).map(([image, why]) => make("li", { textContent: `${image}: ${why}` })));
}
update();
