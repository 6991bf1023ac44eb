// A face as a mesh to turn. The script before it defines `about`, `$` and `payload(item)`.
// --- mesh ------------------------------------------------------------------------------------
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const grid = about.grid && {
  mean: new Int16Array(bytes(about.grid.mean).buffer),
  triangles: new Uint16Array(bytes(about.grid.triangles).buffer),
  uv: new Float32Array(bytes(about.grid.uv).buffer),
};

async function inflate(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function decode(text) {
  const raw = new Uint8Array(await inflate(text));
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
  const next = { shape: p, turn: item.rotation, by: IDENTITY, zoom: 1, painted: false, centre: low.map((v, k) => (v + high[k]) / 2),
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
  return "drag to turn, wheel or two fingers to come nearer";
}

function view(turn) { if (state) { state.turn = turn; draw(); } }
$("front").onclick = () => view(IDENTITY);
$("paint").onclick = () => { $("paint").setAttribute("aria-pressed", $("paint").getAttribute("aria-pressed") !== "true"); draw(); };
function turn(x, y) {
  const more = turned(x, y);
  state.by = multiply(more, state.by);
  view(multiply(more, state.turn));
}
function zoom(by) {
  if (!state) return;
  state.zoom = Math.min(8, Math.max(0.4, state.zoom * by));
  draw();
}
// Keys that turn and come nearer; the arrows to left and right only with Shift.
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
function pressed(e) {
  const [x, y] = ARROWS[e.key] || [0, 0], nearer = { "+": 1.1, "=": 1.1, "-": 1 / 1.1 }[e.key];
  if (!state || !(nearer || x || (y && e.shiftKey))) return false;
  if (nearer) zoom(nearer);
  else turn(x * 0.1, y * 0.1);
  e.preventDefault();
  return true;
}
// One pointer turns; the distance of two brings nearer.
const pointers = new Map();
const spread = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
$("canvas").onpointerdown = (e) => { $("canvas").setPointerCapture(e.pointerId); pointers.set(e.pointerId, [e.clientX, e.clientY]); };
$("canvas").onpointerup = $("canvas").onpointercancel = (e) => pointers.delete(e.pointerId);
$("canvas").onpointermove = (e) => {
  const last = pointers.get(e.pointerId);
  if (!state || !last) return;
  const before = pointers.size === 2 && spread(), unit = 3 / $("canvas").clientHeight;
  pointers.set(e.pointerId, [e.clientX, e.clientY]);
  if (pointers.size === 2) zoom(spread() / Math.max(before, 1));
  else turn((e.clientY - last[1]) * unit, (e.clientX - last[0]) * unit);
};
$("canvas").addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY / 600)); }, { passive: false });
addEventListener("resize", draw);

