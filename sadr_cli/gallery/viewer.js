"use strict";
const about = JSON.parse(document.getElementById("about").textContent);
const items = about.items, PER_PAGE = 60, BLOCK = about.block;
const $ = (id) => document.getElementById(id);

// --- what a card carries: lines of "thumbnail texture mesh strip", BLOCK lines a script element ---
const blocks = new Map();
function payload(item) {
  if (item.p === undefined) return {};
  const index = Math.floor(item.p / BLOCK);
  if (!blocks.has(index)) {
    if (blocks.size > 8) blocks.delete(blocks.keys().next().value);
    blocks.set(index, $("p" + index).textContent.trim().split("\n"));
  }
  const [thumbnail, texture, mesh, strip] = blocks.get(index)[item.p % BLOCK].split(" ");
  return { thumbnail, texture, mesh, strip };
}

// --- grid ------------------------------------------------------------------------------------
const isFace = (i) => i.status === "ok";
const filters = {
  All: () => true,
  Failed: (i) => i.status === "failed",
  "No face": (i) => i.status === "no_face",
  "Low confidence": (i) => isFace(i) && i.confidence < about.low_confidence,
  Profile: (i) => isFace(i) && Math.abs(i.yaw) > about.profile,
  Warnings: (i) => (i.warnings || []).length > 0,
};
let filter = "All", page = 0, shown = [];

for (const name of Object.keys(filters)) {
  const count = items.filter(filters[name]).length;
  const button = document.createElement("button");
  button.textContent = `${name} ${count}`;
  button.dataset.name = name;
  button.disabled = count === 0 && name !== "All";
  button.onclick = () => { filter = name; page = 0; update(); };
  $("filters").append(button);
}
$("sort").onchange = $("search").oninput = () => { page = 0; update(); };
$("previous").onclick = () => { page -= 1; update(); scrollTo(0, 0); };
$("next").onclick = () => { page += 1; update(); scrollTo(0, 0); };

function update() {
  const text = $("search").value.toLowerCase(), order = $("sort").value;
  shown = items.filter((i) => filters[filter](i) && (i.name + " " + i.source).toLowerCase().includes(text));
  const value = (i) => !isFace(i) ? Infinity : order === "confidence" ? i.confidence : -Math.abs(i.yaw);
  if (order !== "order") shown = [...shown].sort((a, b) => value(a) - value(b) || 0);
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  const part = shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
  $("grid").replaceChildren(...part.map(card));
  $("where").textContent = shown.length ? `page ${page + 1} of ${pages}` : "nothing to show";
  $("previous").disabled = page === 0;
  $("next").disabled = page === pages - 1;
  for (const b of $("filters").children) b.setAttribute("aria-pressed", b.dataset.name === filter);
}

function node(kind, className, text) {
  const out = document.createElement(kind);
  if (className) out.className = className;
  if (text !== undefined) out.textContent = text;
  return out;
}
const degrees = (v) => `${v > 0 ? "+" : ""}${v.toFixed(0)}°`;
const color = (c) => c < about.low_confidence ? "var(--bad)" : c < 0.7 ? "var(--warn)" : "var(--good)";

const label = (item) => item.name + (item.track ? `, track ${item.track}` : item.face ? `, face ${item.face}` : "");

function card(item) {
  const out = node("button", "card"), text = node("span", "text");
  const { thumbnail } = payload(item);
  if (thumbnail && thumbnail !== "-") {
    const picture = node("img");
    picture.src = "data:image/jpeg;base64," + thumbnail;
    picture.alt = `${item.name} with its face drawn in`;
    out.append(picture);
  } else out.append(node("span", "none", isFace(item) ? "no picture" : item.status === "failed" ? "failed" : "no face"));
  const name = node("span", "name", label(item));
  name.title = item.source;
  text.append(name);
  if (isFace(item)) {
    text.append(node("span", "numbers", `yaw ${degrees(item.yaw)}  pitch ${degrees(item.pitch)}  roll ${degrees(item.roll)}`));
    text.append(node("span", "numbers", `confidence ${item.confidence.toFixed(2)}`));
    const bar = node("span", "bar"), fill = node("i");
    fill.style.width = `${100 * item.confidence}%`;
    fill.style.background = color(item.confidence);
    bar.append(fill);
    text.append(bar);
    for (const warning of item.warnings || []) text.append(node("span", "note", warning));
    out.onclick = () => open(item);
  } else {
    text.append(node("span", "note bad", item.reason || item.status));
    out.disabled = true;
  }
  out.append(text);
  return out;
}

// --- mesh ------------------------------------------------------------------------------------
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const grid = about.grid && {
  mean: new Int16Array(bytes(about.grid.mean).buffer),
  triangles: new Uint16Array(bytes(about.grid.triangles).buffer),
  uv: new Float32Array(bytes(about.grid.uv).buffer),
};

async function decode(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  const n = raw.length / 6, out = new Float32Array(3 * n);
  for (let axis = 0; axis < 3; axis++) {
    let sum = 0;
    for (let k = 0; k < n; k++) {
      const j = axis * n + k;
      sum = ((sum + (raw[j] | (raw[3 * n + j] << 8))) << 16) >> 16;
      out[3 * k + axis] = (grid.mean[3 * k + axis] + sum) * about.quantum;
    }
  }
  return out;
}

function normals(p) {
  const out = new Float32Array(p.length), t = grid.triangles;
  for (let k = 0; k < t.length; k += 3) {
    const [a, b, c] = [3 * t[k], 3 * t[k + 1], 3 * t[k + 2]];
    const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
    const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
    const n = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const v of [a, b, c]) for (let i = 0; i < 3; i++) out[v + i] += n[i];
  }
  return out;
}

// --- WebGL -----------------------------------------------------------------------------------
const VERTEX = `attribute vec3 position, normal; attribute vec2 uv; uniform mat3 turn; uniform vec3 centre;
uniform vec2 scale; varying vec3 n; varying vec2 t;
void main() { vec3 p = turn * (position - centre); n = turn * normal; t = uv;
gl_Position = vec4(p.xy * scale, -p.z / 400.0, 1.0); }`;
const FRAGMENT = `precision mediump float; varying vec3 n; varying vec2 t; uniform sampler2D picture; uniform float paint;
void main() { vec3 m = normalize(n); if (!gl_FrontFacing) m = -m;
float key = max((dot(m, normalize(vec3(-.45, .65, .62))) + .2) / 1.2, 0.), fill = max(dot(m, normalize(vec3(.75, -.1, .55))), 0.);
float light = .25 + .68 * key + .22 * fill; vec3 half_way = normalize(vec3(-.25, .38, .89));
vec3 clay = vec3(.69, .8, .93) * light + .12 * pow(max(dot(m, half_way), 0.), 24.);
vec3 photo = texture2D(picture, t).rgb * mix(1., light + .12, .3);
if (!gl_FrontFacing) { clay *= .45; photo = photo * .25 + .08; }
gl_FragColor = vec4(mix(clay, photo, paint), 1.); }`;

let gl, program, state = null;
function prepare() {
  if (gl !== undefined) return gl;
  gl = $("canvas").getContext("webgl", { antialias: true, preserveDrawingBuffer: true });
  if (!gl) return gl;
  program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, grid.triangles, gl.STATIC_DRAW);
  attribute("uv", 2, grid.uv);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.enable(gl.DEPTH_TEST);
  return gl;
}

const buffers = {};
function attribute(name, size, data) {
  buffers[name] ||= gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
  gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
  const at = gl.getAttribLocation(program, name);
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, size, gl.FLOAT, false, 0, 0);
}

const IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1];
function multiply(a, b) {
  return IDENTITY.map((_, k) => [0, 1, 2].reduce((s, j) => s + a[3 * Math.floor(k / 3) + j] * b[3 * j + (k % 3)], 0));
}
function turned(x, y) { // by y about the vertical axis, then by x about the horizontal one
  const [cx, sx, cy, sy] = [Math.cos(x), Math.sin(x), Math.cos(y), Math.sin(y)];
  return multiply([1, 0, 0, 0, cx, -sx, 0, sx, cx], [cy, 0, sy, 0, 1, 0, -sy, 0, cy]);
}

function draw() {
  if (!state || !gl) return;
  const canvas = $("canvas"), ratio = Math.min(devicePixelRatio || 1, 2);
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  const at = (name) => gl.getUniformLocation(program, name), m = state.turn;
  const unit = state.zoom / (state.radius * 0.95), wide = canvas.width / canvas.height;
  gl.uniformMatrix3fv(at("turn"), false, [m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]]);
  gl.uniform3fv(at("centre"), state.centre);
  gl.uniform2f(at("scale"), wide > 1 ? unit / wide : unit, wide > 1 ? unit : unit * wide);
  gl.uniform1f(at("paint"), $("paint").getAttribute("aria-pressed") === "true" && state.painted ? 1 : 0);
  gl.drawElements(gl.TRIANGLES, grid.triangles.length, gl.UNSIGNED_SHORT, 0);
}

async function load(item) {
  state = null;
  const { texture, mesh } = payload(item);
  if (!mesh || mesh === "-" || !grid) return "no mesh in this page: open the files";
  if (typeof DecompressionStream === "undefined") return "this browser is too old for the 3-D view";
  if (!prepare()) return "this browser has no WebGL";
  const p = await decode(mesh), low = [1e9, 1e9, 1e9], high = [-1e9, -1e9, -1e9];
  p.forEach((v, k) => { low[k % 3] = Math.min(low[k % 3], v); high[k % 3] = Math.max(high[k % 3], v); });
  const next = { turn: item.rotation, zoom: 1, painted: false, centre: low.map((v, k) => (v + high[k]) / 2),
    radius: Math.hypot(...low.map((v, k) => (high[k] - v) / 2)) };
  const picture = new Image();
  picture.src = "data:image/jpeg;base64," + texture;
  await picture.decode().then(() => { next.painted = true; }, () => {});
  attribute("position", 3, p);
  attribute("normal", 3, normals(p));
  if (next.painted) {
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, picture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  }
  state = next;
  return "drag to turn, wheel to come nearer";
}

// --- dialog ----------------------------------------------------------------------------------
let current = null;
async function open(item) {
  current = item;
  $("title").textContent = label(item);
  const rows = [["photo", item.source], ["yaw, pitch, roll", [item.yaw, item.pitch, item.roll].map((v) => v.toFixed(1) + "°").join(", ")],
    ["confidence", item.confidence.toFixed(3)]];
  $("facts").replaceChildren(...rows.map(([a, b]) => { const r = node("tr"); r.append(node("td", "", a), node("td", "", b)); return r; }));
  $("notes").replaceChildren(...(item.warnings || []).map((w) => node("div", "note", w)));
  $("files").replaceChildren(...item.files.map((f) => {
    const link = node("a", "", f.split("/").pop());
    link.href = f.split("/").map(encodeURIComponent).join("/");
    link.target = "_blank";
    return link;
  }));
  const { thumbnail, strip } = payload(item);
  $("strip").replaceChildren(...(strip && strip !== "-" ? strip.split(",") : []).map((part) => {
    const [seconds, data] = part.split(":"), picture = node("img");
    picture.src = "data:image/jpeg;base64," + data;
    picture.title = picture.alt = `at ${seconds} s`;
    return picture;
  }));
  drawCurve(item.curve);
  $("overlay").hidden = !thumbnail || thumbnail === "-";
  if (!$("overlay").hidden) $("overlay").src = "data:image/jpeg;base64," + thumbnail;
  if (!$("dialog").open) $("dialog").showModal();
  $("canvas").getContext && gl && gl.clear(gl.COLOR_BUFFER_BIT);
  const hint = await load(item);
  if (current !== item) return;
  $("hint").textContent = hint;
  draw();
}
// A video's angles over time; thin where confidence is low.
const LINES = [["yaw", "#e4572e"], ["pitch", "#3a9d5d"], ["roll", "#3f7fe0"]];
function drawCurve(points) {
  const canvas = $("curve");
  canvas.hidden = !points || points.length < 2;
  if (canvas.hidden) return;
  const pen = canvas.getContext("2d"), [w, h, left, bottom] = [canvas.width, canvas.height, 46, 34];
  const style = getComputedStyle(document.body), first = points[0][0], last = points[points.length - 1][0];
  const reach = Math.max(30, ...points.flatMap((p) => p.slice(1, 4).map(Math.abs)));
  const x = (t) => left + (w - left - 8) * (t - first) / (last - first || 1);
  const y = (a) => 8 + (h - 8 - bottom) * (reach - a) / (2 * reach);
  pen.clearRect(0, 0, w, h);
  pen.font = "18px system-ui, sans-serif";
  pen.fillStyle = style.color;
  pen.strokeStyle = style.getPropertyValue("--line");
  for (const a of [-reach, 0, reach]) {
    pen.fillText(a.toFixed(0) + "°", 0, y(a) + 6);
    pen.beginPath(); pen.moveTo(left, y(a)); pen.lineTo(w, y(a)); pen.stroke();
  }
  pen.fillText(first.toFixed(1) + " s", left, h - 2);
  pen.fillText(last.toFixed(1) + " s", w - 64, h - 2);
  LINES.forEach(([name, line], k) => {
    pen.strokeStyle = pen.fillStyle = line;
    pen.fillText(name, left + 110 + 90 * k, h - 2);
    for (let j = 1; j < points.length; j++) {
      pen.lineWidth = points[j][4] < about.low_confidence ? 1 : 2.5;
      pen.beginPath();
      pen.moveTo(x(points[j - 1][0]), y(points[j - 1][k + 1]));
      pen.lineTo(x(points[j][0]), y(points[j][k + 1]));
      pen.stroke();
    }
  });
}

function step(by) {
  const faces = shown.filter(isFace), k = faces.indexOf(current) + by;
  if (faces[k]) open(faces[k]);
}
function view(turn) { if (state) { state.turn = turn; draw(); } }

$("close").onclick = () => $("dialog").close();
$("dialog").onclick = (e) => { if (e.target === $("dialog")) $("dialog").close(); };
$("photo").onclick = () => view(current.rotation);
$("front").onclick = () => view(IDENTITY);
$("paint").onclick = () => { $("paint").setAttribute("aria-pressed", $("paint").getAttribute("aria-pressed") !== "true"); draw(); };
$("dialog").onkeydown = (e) => { if (e.key === "ArrowLeft") step(-1); if (e.key === "ArrowRight") step(1); };
$("canvas").onpointerdown = (e) => $("canvas").setPointerCapture(e.pointerId);
$("canvas").onpointermove = (e) => {
  if (!state || !(e.buttons & 1)) return;
  const unit = 3 / $("canvas").clientHeight;
  view(multiply(turned(e.movementY * unit, e.movementX * unit), state.turn));
};
$("canvas").addEventListener("wheel", (e) => {
  e.preventDefault();
  if (!state) return;
  state.zoom = Math.min(8, Math.max(0.4, state.zoom * Math.exp(-e.deltaY / 600)));
  draw();
}, { passive: false });
addEventListener("resize", draw);

const faces = items.filter(isFace).length;
$("count").textContent = `${faces} ${faces === 1 ? "face" : "faces"} in ${about.photos} ${about.photos === 1 ? "input" : "inputs"}`;
// What a page of this size leaves out is said.
const { items: most, pictures, meshes } = about.limit;
const limits = [
  most && `the first ${most} results are shown here, all are in manifest.json`,
  pictures && `pictures of the first ${pictures} faces`,
  meshes && `3-D views of the first ${meshes}`,
].filter(Boolean);
$("limit").hidden = !limits.length;
$("limit").textContent = `A page holds so much only: ${limits.join("; ")}. All files are in the folder.`;
update();
