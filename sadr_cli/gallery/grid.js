"use strict";
const about = JSON.parse(document.getElementById("about").textContent);
const items = about.items, PER_PAGE = 60, BLOCK = about.block;
const $ = (id) => document.getElementById(id);

// --- what a card carries: lines of "thumbnail texture mesh strip motion", BLOCK lines a script element ---
const blocks = new Map();
function payload(item) {
  if (item.p === undefined) return {};
  const index = Math.floor(item.p / BLOCK);
  if (!blocks.has(index)) {
    if (blocks.size > 8) blocks.delete(blocks.keys().next().value);
    blocks.set(index, $("p" + index).textContent.trim().split("\n"));
  }
  const [thumbnail, texture, mesh, strip, motion] = blocks.get(index)[item.p % BLOCK].split(" ");
  return { thumbnail, texture, mesh, strip, motion };
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
  const words = (i) => i.words ??= (i.name + " " + i.source).toLowerCase();
  shown = items.filter((i) => filters[filter](i) && (!text || words(i).includes(text)));
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
const color = (c) => c < about.low_confidence ? "var(--bad)" : c < about.low_confidence + 0.1 ? "var(--warn)" : "var(--good)";

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

