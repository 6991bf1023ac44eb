// --- dialog ----------------------------------------------------------------------------------
let current = null;
async function open(item) {
  current = item;
  $("title").textContent = label(item);
  const medium = item.track ? "video" : "photo";
  $("photo").textContent = `As in the ${medium}`;
  const rows = [[medium, item.source], ["yaw, pitch, roll (y-x-z)", [item.yaw, item.pitch, item.roll].map((v) => v.toFixed(1) + "°").join(", ")],
    ["confidence", item.confidence.toFixed(3)]];
  $("facts").replaceChildren(...rows.map(([a, b]) => { const r = node("tr"); r.append(node("td", "", a), node("td", "", b)); return r; }));
  $("notes").replaceChildren(...(item.warnings || []).map((w) => node("div", "note", w)));
  $("files").replaceChildren(...item.files.map((f) => {
    const link = node("a", "", f);
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
  const { motion } = payload(item);
  $("play").hidden = !state || !motion || motion === "-";
  draw();
}

// --- a track that plays: its shape by targets, its turn, over the video's time ----------------
let playing = null;
async function unpack(text) {
  const raw = await inflate(text), [n, k] = new Uint32Array(raw, 0, 2);
  let at = 8;
  const take = (Kind, count) => {
    const out = new Kind(raw.slice(at, at + count * Kind.BYTES_PER_ELEMENT));
    at += count * Kind.BYTES_PER_ELEMENT;
    return out;
  };
  return { n, k, times: take(Float32Array, n), turns: take(Int16Array, 4 * n), weights: take(Uint16Array, n * k),
    targets: take(Int16Array, (raw.byteLength - 8 - n * (12 + 2 * k)) / 2) };
}
function rotation(q) { // of a quaternion w, x, y, z of any length
  const [w, x, y, z] = q.map((v) => v / Math.hypot(...q));
  return [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), 2 * (x * y + w * z), 1 - 2 * (x * x + z * z),
    2 * (y * z - w * x), 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)];
}
function show(m, seconds) {
  let j = 1;
  while (j < m.n - 1 && m.times[j] < seconds) j++;
  const share = Math.min(1, Math.max(0, (seconds - m.times[j - 1]) / (m.times[j] - m.times[j - 1] || 1)));
  const a = [...m.turns.slice(4 * j - 4, 4 * j)], b = [...m.turns.slice(4 * j, 4 * j + 4)];
  const side = a.reduce((s, v, i) => s + v * b[i], 0) < 0 ? -1 : 1; // the short way
  state.turn = multiply(state.by, rotation(a.map((v, i) => v * (1 - share) + side * b[i] * share)));
  if (m.k) {
    const p = state.shape.slice(), count = p.length / 3;
    for (let t = 0; t < m.k; t++) {
      const w = (m.weights[(j - 1) * m.k + t] * (1 - share) + m.weights[j * m.k + t] * share) / 65535 * about.quantum;
      for (let axis = 0, at = 3 * t * count; axis < 3; axis++)
        for (let v = axis; v < p.length; v += 3) p[v] += w * m.targets[at++];
    }
    attribute("position", 3, p);
    attribute("normal", 3, normals(p));
  }
  draw();
}
function halt() {
  playing = null;
  $("play").setAttribute("aria-pressed", "false");
  $("play").textContent = "Play";
}
$("play").onclick = async () => {
  if (playing) { halt(); return; }
  const mine = state, m = await unpack(payload(current).motion), began = performance.now();
  if (!mine || state !== mine) return;
  playing = m;
  state.by = IDENTITY;
  $("play").setAttribute("aria-pressed", "true");
  $("play").textContent = "Stop";
  const first = m.times[0], length = m.times[m.n - 1] - first + 0.5; // it rests before it begins again
  const next = (now) => {
    if (playing !== m || state !== mine || !$("dialog").open) { if (playing === m) halt(); return; }
    show(m, first + (Math.max(now - began, 0) / 1000) % length);
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
};
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

$("close").onclick = () => $("dialog").close();
$("dialog").onclick = (e) => { if (e.target === $("dialog")) $("dialog").close(); };
$("photo").onclick = () => { halt(); view(current.rotation); };
$("front").addEventListener("click", halt, true);
$("dialog").onkeydown = (e) => {
  if (pressed(e)) return;
  if (e.key === "ArrowLeft") step(-1);
  if (e.key === "ArrowRight") step(1);
};

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
