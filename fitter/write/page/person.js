// One person's view: pictures cut from the overlay, the body in 3D before the photo's plane, all that is known.
"use strict";

const PICTURES = { over: "overlay", photo: "photo", labels: "labels", classes: "body's labels", side: "side" };
const VIEWS = ["camera", "side", "behind", "above"];
let which = "over", view = null, scene = null;
const waiting = new Map();

/** A script, once: pages that are opened from disk may read no other files. */
const scripts = new Map();
function script(source) {
  if (!scripts.has(source)) {
    scripts.set(source, new Promise((done, failed) => {
      document.head.append(make("script", { src: source, onload: done, onerror: () => failed(new Error(`${source} is missing`)) }));
    }));
  }
  return scripts.get(source);
}

function VIEW(file, data) { waiting.set(file, data); }

async function showPerson(at) {
  const one = people[at], dialog = $("person");
  if (!dialog.open) dialog.showModal();
  $("who").textContent = one.name;
  for (const button of dialog.querySelectorAll("[data-decide]")) button.setAttribute("aria-pressed", button.dataset.decide === decisionOf(at));
  dialog.dataset.name = one.name;
  try {
    await script(`report/people/${one.file}.js`);
  } catch (error) {
    facts(at, {});
    return;
  }
  if (dialog.dataset.name !== one.name || !dialog.open) return; // another one was chosen meanwhile
  view = waiting.get(one.file);
  facts(at, view);
  drawPicture();
  try {
    await Promise.all([script("report/three.js"), script("report/faces.js")]);
    scene ||= makeScene($("body"));
    if (dialog.open) scene.show(view, RUN.skin[one.place % RUN.skin.length]);
  } catch (error) {
    say($("body"), `no 3D view: ${error.message}`);
  }
}

function say(canvas, text) {
  const context = canvas.getContext("2d");
  if (!context) return;
  Object.assign(canvas, { width: canvas.clientWidth, height: canvas.clientHeight });
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--quiet");
  context.font = "13px system-ui";
  context.fillText(text, 12, 24);
}

// ---- pictures

const overlay = new Image();
overlay.addEventListener("load", () => drawPicture());

function drawPicture() {
  if (!view) return;
  const canvas = $("picture"), ratio = devicePixelRatio || 1;
  if (!view.overlay) return say(canvas, "no picture: fitted with --overlay false");
  const source = view.overlay.split("/").map(encodeURIComponent).join("/");
  const there = Object.keys(PICTURES).filter((name) => name === "side" ? view.side : view.panels[name]);
  if (!there.includes(which)) which = "over";
  $("which").replaceChildren(...there.map((name) => toggle(PICTURES[name], name === which, () => { which = name; drawPicture(); })));
  if (overlay.getAttribute("src") !== source) { overlay.src = source; return; }
  if (!overlay.complete || !overlay.naturalWidth) return;
  const [x0, y0, x1, y1] = which === "side" ? view.side : view.panels[which];
  const [a, b, c, d] = which === "side" || $("whole").checked ? [0, 0, x1 - x0, y1 - y0] : view.crop;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  const scale = Math.min(canvas.width / (c - a), canvas.height / (d - b));
  const [width, height] = [(c - a) * scale, (d - b) * scale], context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(overlay, x0 + a, y0 + b, c - a, d - b, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

function toggle(text, pressed, act) {
  const button = make("button", { textContent: text });
  button.setAttribute("aria-pressed", pressed);
  button.addEventListener("click", act);
  return button;
}

// ---- the body in 3D; camera axes turned so that y is up and z towards the camera

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

function makeScene(canvas) {
  const renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
  renderer.setPixelRatio(Math.min(devicePixelRatio || 1, 2));
  const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(40, 1, 0.05, 2000);
  const light = new THREE.DirectionalLight(0xffffff, 2.2);
  scene.add(new THREE.HemisphereLight(0xffffff, 0x777788, 1.4), light);
  const mesh = new THREE.Mesh(new THREE.BufferGeometry(), new THREE.MeshLambertMaterial());
  const faces = new Uint32Array(bytes(FACES));
  const plane = new THREE.Mesh(new THREE.BufferGeometry(), new THREE.MeshBasicMaterial());
  let floor = null;
  scene.add(mesh, plane);
  const controls = new THREE.OrbitControls(camera, canvas);
  controls.enablePan = false;
  controls.addEventListener("change", draw);
  const middle = new THREE.Vector3();
  let reach = 1, high = 1, wide = 1, shown = null;

  function draw() {
    if (floor) floor.visible = camera.position.y - floor.position.y > 0.1 * middle.length(); // from its edge it is a bar
    light.position.copy(camera.position).add(new THREE.Vector3(-1, 2, 1));
    light.target.position.copy(middle);
    light.target.updateMatrixWorld();
    renderer.render(scene, camera);
  }

  function size() {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height || !shown) return;
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    const distance = middle.length(); // as seen from the photo's camera, the crop fills the view
    camera.fov = 2 * Math.atan(Math.max(high, wide / camera.aspect) / 2 / distance) * 180 / Math.PI;
    camera.updateProjectionMatrix();
    draw();
  }

  function look(from) {
    const distance = middle.length();
    const to = { camera: middle.clone().negate(), side: new THREE.Vector3(-distance, 0, 0),
      behind: middle.clone(), above: new THREE.Vector3(0, distance, 0.01) }[from];
    camera.position.copy(middle).add(to.setLength(distance));
    controls.target.copy(middle);
    controls.update();
    draw();
  }

  function show(data, colour) {
    const packed = new Uint16Array(bytes(data.vertices)), points = new Float32Array(packed.length), low = data.low_m;
    const least = [Infinity, Infinity, Infinity], most = [-Infinity, -Infinity, -Infinity];
    for (let at = 0; at < packed.length; at++) {
      const axis = at % 3, value = (low[axis] + packed[at] * data.step_m) * (axis ? -1 : 1);
      points[at] = value;
      least[axis] = Math.min(least[axis], value);
      most[axis] = Math.max(most[axis], value);
    }
    mesh.geometry.dispose();
    mesh.geometry = new THREE.BufferGeometry();
    mesh.geometry.setAttribute("position", new THREE.BufferAttribute(points, 3));
    mesh.geometry.setIndex(new THREE.BufferAttribute(faces, 1));
    mesh.geometry.computeVertexNormals();
    mesh.material.color.setRGB(...colour, THREE.SRGBColorSpace);
    middle.set(...[0, 1, 2].map((axis) => (least[axis] + most[axis]) / 2));
    reach = Math.max(...[0, 1, 2].map((axis) => most[axis] - least[axis]));
    [wide, high] = [most[0] - least[0], most[1] - least[1]].map((side) => side * 1.3 + 0.1);
    if (floor) { scene.remove(floor); floor.dispose(); }
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    floor = new THREE.GridHelper(Math.ceil(2 * reach), 4 * Math.ceil(2 * reach), dark ? 0x555b61 : 0xb9bdc1, dark ? 0x33383c : 0xdadcde);
    floor.position.set(middle.x, least[1], middle.z);
    scene.add(floor);
    placePhoto(data, least[2] - 0.25);
    const first = !shown;
    shown = data;
    size();
    look("camera");
    if (first && !matchMedia("(prefers-reduced-motion: reduce)").matches) $("spin").checked = true;
    turn();
  }

  /** The photo about the person at depth z, where each of its pixels lies on its own ray. */
  function placePhoto(data, z) {
    plane.visible = Boolean(data.photo) && $("plane").checked;
    if (!data.photo) return;
    const [x0, y0, x1, y1] = data.photo_box_px, corner = (x, y) =>
      [(x - data.center_px[0]) / data.focal_px[0] * -z, (y - data.center_px[1]) / data.focal_px[1] * z, z];
    plane.geometry.dispose();
    plane.geometry = new THREE.BufferGeometry();
    plane.geometry.setAttribute("position", new THREE.BufferAttribute(
      new Float32Array([corner(x0, y1), corner(x1, y1), corner(x1, y0), corner(x0, y0)].flat()), 3));
    plane.geometry.setAttribute("uv", new THREE.BufferAttribute(new Float32Array([0, 0, 1, 0, 1, 1, 0, 1]), 2));
    plane.geometry.setIndex([0, 1, 2, 0, 2, 3]);
    plane.material.map?.dispose();
    plane.material.map = new THREE.TextureLoader().load(data.photo, draw);
    plane.material.map.colorSpace = THREE.SRGBColorSpace;
    plane.material.needsUpdate = true;
  }

  let frame = 0, began = 0;
  /** Swings about the body while it is asked to and in sight. */
  function turn(now) {
    cancelAnimationFrame(frame);
    if (!$("spin").checked || !$("person").open) { began = 0; return; }
    if (now) {
      began ||= now;
      const distance = middle.length(), angle = 0.9 * Math.sin((now - began) / 1800), up = 0.1 * Math.sin((now - began) / 3600);
      const away = middle.clone().negate(), yaw = Math.atan2(away.x, away.z) + angle, tilt = Math.asin(away.y / distance) + up;
      camera.position.set(Math.cos(tilt) * Math.sin(yaw), Math.sin(tilt), Math.cos(tilt) * Math.cos(yaw)).multiplyScalar(distance).add(middle);
      controls.update();
      draw();
    }
    frame = requestAnimationFrame(turn);
  }

  canvas.addEventListener("pointerdown", () => { $("spin").checked = false; });
  new ResizeObserver(size).observe(canvas);
  return { show, look, turn, plane: (on) => { plane.visible = on && Boolean(shown?.photo); draw(); } };
}

// ---- what is known

function facts(at, known) {
  const one = people[at], decision = decisionOf(at), rows = [], row = (...cells) => make("tr", {}, ...cells);
  const title = (text) => rows.push(make("h3", { textContent: text }));
  const table = (entries, wide = "") => rows.push(make("table", {}, ...entries.map(([name, value]) =>
    row(make("td", { textContent: name }), value instanceof Node ? make("td", {}, value) : make("td", { textContent: value, className: wide })))));
  title(one.image);
  const status = one.valid ? make("span", { className: "good", textContent: "valid" }) : make("span", { className: "doubt", textContent: "doubtful" });
  rows.push(make("p", {}, status, decision === "undecided" ? "" : make("span", {
    className: decision === "accept" ? "good" : "bad", textContent: decision === "accept" ? " · accepted" : " · rejected" })));
  if (one.reasons.length) rows.push(make("ul", {}, ...one.reasons.map((reason) => make("li", { textContent: reason }))));
  title("Quality");
  const names = Object.keys(numbers).filter((name) => numbers[name][at] !== null);
  table(names.filter((name) => !/^energy_(?!start)/.test(name)).map((name) => [nameOf(name), format(numbers[name][at])]));
  const terms = names.filter((name) => /^energy_(?!start)/.test(name) && numbers[name][at]);
  const top = Math.max(...terms.map((name) => numbers[name][at]), 1e-9);
  title("Energy by term");
  table(terms.map((name) => {
    const level = make("span", { className: "level" });
    level.style.width = `${Math.max(1, 90 * numbers[name][at] / top)}px`;
    return [name.slice(7), make("span", {}, level, format(numbers[name][at]))];
  }));
  title("Joints");
  const joints = (state) => RUN.joints.filter((_, joint) => one.states[joint] === state).map((name) => name.replaceAll("_", " ")).join(", ");
  table([["seen", `${numbers.joints_seen[at]} of 24`], ["guessed", joints("1") || "none"], ["outside", joints("0") || "none"]], "wide");
  title("From");
  const [keypoints, camera, labels] = one.sources;
  const pair = (values, digits) => values ? values.map((value) => value.toFixed(digits)).join(", ") : "";
  table([["keypoints", keypoints], ["labels", labels], ["camera", camera], ["focal, px", pair(known.focal_px, 0)],
    ["centre, px", pair(known.center_px, 0)], ["photo, px", pair(known.size_px, 0)],
    ["body", known.body || ""], ["pose prior", known.prior || ""], ["betas", pair(known.betas, 2)]], "wide");
  const lines = Object.entries(known.inputs || {}).map(([role, file]) => `${role}: ${file.path}  ${file.size} bytes  sha256 ${(file.sha256 || "").slice(0, 12)}`);
  rows.push(fold("What was read", lines.join("\n")), fold("Settings", settings(RUN.settings).join("\n") + `\nversion ${RUN.version}`));
  $("facts").replaceChildren(...rows);
}

function fold(title, text) {
  return make("details", {}, make("summary", { textContent: title }), make("pre", { textContent: text }));
}

function settings(value, path = "") {
  if (value === null || typeof value !== "object") return [`${path}: ${value}`];
  const entries = Object.entries(value);
  if (Array.isArray(value) && entries.every(([, item]) => typeof item !== "object")) return [`${path}: ${value.join(", ")}`];
  return entries.flatMap(([key, item]) => settings(item, path ? `${path}.${key}` : key));
}

// ---- what the user does

function personKey(key) {
  if ("1234".includes(key)) lookFrom(VIEWS[key - 1]);
  else if (key === "o") {
    const there = Object.keys(PICTURES).filter((name) => name === "side" ? view?.side : view?.panels?.[name]);
    which = there[(there.indexOf(which) + 1) % there.length];
    drawPicture();
  } else return false;
  return true;
}

function lookFrom(from) {
  $("spin").checked = false;
  scene?.look(from);
}

$("from").append(...VIEWS.map((from) => toggle(from, false, () => lookFrom(from))));
$("whole").addEventListener("change", drawPicture);
$("plane").addEventListener("change", () => scene?.plane($("plane").checked));
$("spin").addEventListener("change", () => scene?.turn());
$("close").addEventListener("click", () => $("person").close());
$("person").addEventListener("close", () => { view = null; layout(); });
new ResizeObserver(drawPicture).observe($("picture"));
