"use strict";
// Glue between the charts (all drawn by plotly), the controls and the panel of the selected node.
const R = JSON.parse(document.getElementById("report").textContent);
const $ = (id) => document.getElementById(id);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();
let selected = -1;

// ---- theme
function ink(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function template() {
  const axis = { gridcolor: ink("--grid"), linecolor: ink("--line"), zerolinecolor: ink("--line"), automargin: true };
  return { layout: {
    font: { color: ink("--ink"), family: "system-ui, Segoe UI, Roboto, DejaVu Sans, sans-serif", size: 13 },
    xaxis: axis, yaxis: axis, legend: { bgcolor: "rgba(0,0,0,0)" },
    hoverlabel: { bgcolor: ink("--card"), bordercolor: ink("--line"), font: { color: ink("--ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("--soft"), activecolor: ink("--accent") },
  } };
}
// No button that would send data away; the page may not reach a network anyway (its content security policy).
const config = (wheel) => ({ responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", scrollZoom: wheel, displayModeBar: "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
dark.addEventListener("change", () => {
  for (const id of drawn) Plotly.relayout($(id), { template: template() });
});

// ---- charts
function draw(id) {
  const place = $(id);
  if (drawn.has(id) || !R.charts[id]) return;
  drawn.add(id);
  const chart = R.charts[id];
  Plotly.newPlot(place, chart.data, { ...chart.layout, template: template() }, config("wheel" in place.dataset));
  place.on("plotly_click", (event) => {
    const node = event.points.map((point) => point.customdata).find((value) => Number.isInteger(value) && value >= 0);
    if (node !== undefined && R.nodes) select(node);
  });
  if (selected >= 0) ring(id);
}
function small(id, data, layout) {
  const base = { margin: { l: 8, r: 8, t: 8, b: 8 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    dragmode: false, template: template() };
  Plotly.react($(id), data, { ...base, ...layout }, { ...config(false), displayModeBar: false });
  drawn.add(id);
}

// ---- tabs
const tabs = [...document.querySelectorAll('[role="tab"]')];
function show(tab) {
  for (const each of tabs) {
    const chosen = each === tab;
    each.setAttribute("aria-selected", chosen);
    each.tabIndex = chosen ? 0 : -1;
    $(each.getAttribute("aria-controls")).hidden = !chosen;
  }
  if ($("detail")) $("detail").hidden = !("nodes" in tab.dataset);
  for (const place of $(tab.getAttribute("aria-controls")).querySelectorAll(".chart")) {
    if (place.offsetParent === null) continue;
    if (drawn.has(place.id)) Plotly.Plots.resize(place);
    else draw(place.id);
  }
  if (tab.id === "tab-growth") moment();
  if (tab.id === "tab-planes") feature();
}
tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = step ? tabs[(index + step + tabs.length) % tabs.length]
      : { Home: tabs[0], End: tabs[tabs.length - 1] }[event.key];
    if (next) { event.preventDefault(); next.focus(); show(next); }
  });
});

// ---- pictures: tiles of a sheet
function sheets() {
  const style = document.createElement("style");
  style.textContent = R.pictures.sheets.map((uri, n) => `.sheet${n}{background-image:url(${uri})}`).join("");
  document.head.append(style);
}
function thumb(number, width, text) {
  const { columns, width: w, height: h, total } = R.pictures;
  const per = columns * columns, place = number % per, sheet = Math.floor(number / per);
  const scale = width / w, rows = Math.ceil(Math.min(per, total - sheet * per) / columns);
  const tile = document.createElement("span");
  tile.className = `thumb sheet${sheet}`;
  tile.setAttribute("role", "img");
  tile.setAttribute("aria-label", text);
  tile.title = text;
  Object.assign(tile.style, { width: `${width}px`, height: `${h * scale}px`,
    backgroundSize: `${columns * width}px ${rows * h * scale}px`,
    backgroundPosition: `-${(place % columns) * width}px -${Math.floor(place / columns) * h * scale}px` });
  return tile;
}

// ---- the selected node
const named = (label) => (label < 0 ? "unknown" : R.classes[label]);
function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}
function ring(id) {
  const place = $(id), at = place.dataset.at && R.at[place.dataset.at];
  if (!at || !drawn.has(id)) return;
  Plotly.restyle(place, { x: [[at[selected][0]]], y: [[at[selected][1]]] }, [place.data.length - 1]);
}
function select(node) {
  selected = node;
  for (const place of document.querySelectorAll(".chart[data-at]")) ring(place.id);
  $("node").value = String(node);
  const info = R.nodes[node], m = R.measures;
  $("node-title").textContent = `Node ${info.id}`;
  facts(info, node, m);
  portrait(info);
  samples("members", info.members, info, false);
  samples("misfits", info.misfits, info, true);
  const around = $("near");
  around.replaceChildren();
  for (const other of info.near || []) {
    const button = element("button", String(R.nodes[other].id), around);
    button.setAttribute("aria-label", `Go to neighbour ${R.nodes[other].id}`);
    button.addEventListener("click", () => select(other));
  }
  if (!around.children.length) around.textContent = "none";
  composition(info);
  bars(node);
}
function facts(info, node, m) {
  const table = $("facts");
  table.replaceChildren();
  const percent = (x) => `${(100 * x).toFixed(1)} %`;
  const rows = [["class it has learned", info.class >= 0 ? named(info.class) : null],
    ["most of its samples", info.majority >= 0 ? named(info.majority) : null],
    ["samples", m.samples ? m.samples[node].toLocaleString("en") : null],
    ["purity", m.purity?.[node] != null ? percent(m.purity[node]) : null],
    ["mean distance of its samples", m.error?.[node] != null ? m.error[node].toPrecision(3) : null],
    ["novelty of its samples", m.novelty?.[node] != null ? m.novelty[node].toFixed(2) : null],
    ["distance to its neighbours", m.u_height?.[node] != null ? m.u_height[node].toPrecision(3) : null]];
  for (const [name, value] of rows.filter((row) => row[1] !== null)) {
    const row = element("tr", undefined, table);
    element("th", name, row).scope = "row";
    element("td", value, row);
  }
}
function portrait(info) {
  const place = $("portrait");
  place.replaceChildren();
  const add = (number, text) => {
    const figure = element("figure", undefined, place);
    figure.append(thumb(number, R.pictures.width > R.pictures.height ? 150 : 104, `Node ${info.id}: ${text}`));
    element("figcaption", text, figure);
  };
  if (info.picture != null) add(info.picture, R.prototype);
  if (info.relevance != null) add(info.relevance, "relevance of each pixel");
}
function samples(id, listed, info, misfit) {
  const place = $(id);
  place.replaceChildren();
  if (!listed.length) { place.textContent = R.measures.samples ? "none" : "unknown: the data were not at hand"; return; }
  if (listed[0].p == null) return sampleTable(place, listed);
  for (const one of listed) {
    const own = info.class >= 0 ? info.class : info.majority;
    const figure = element("figure", undefined, place);
    figure.className = one.c >= 0 && own >= 0 && one.c !== own ? "wrong" : "right";
    const text = `row ${one.r}, class ${named(one.c)}, activation ${one.a.toFixed(3)}`;
    figure.append(thumb(one.p, R.pictures.width > R.pictures.height ? 76 : 48, `${misfit ? "Misfit" : "Member"}: ${text}`));
    element("figcaption", one.c < 0 ? "?" : named(one.c), figure);
  }
}
function sampleTable(place, listed) {
  const table = element("table", undefined, element("div", undefined, place)), head = element("tr", undefined, table);
  table.parentElement.style.overflow = "auto";
  for (const name of ["row", "class", "activation", ...(listed[0].v || []).map((pair) => pair[0])]) {
    element("th", name.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&"), head).scope = "col";
  }
  for (const one of listed) {
    const row = element("tr", undefined, table);
    for (const value of [one.r, named(one.c), one.a.toFixed(3), ...(one.v || []).map((pair) => pair[1])]) {
      element("td", String(value), row);
    }
  }
}
function composition(info) {
  const known = info.counts.slice(0, -1), place = $("composition");
  place.parentElement.hidden = !info.counts.some((count) => count > 0) || R.classes.length === 0;
  if (place.parentElement.hidden) return;
  const order = known.map((_, label) => label).filter((label) => known[label] > 0)
    .sort((a, b) => known[b] - known[a]).slice(0, 12);
  const rest = info.counts[info.counts.length - 1];
  const labels = [...order.map((label) => R.classLabels[label]), ...(rest ? ["unknown"] : [])];
  const values = [...order.map((label) => known[label]), ...(rest ? [rest] : [])];
  place.style.height = `${56 + 22 * labels.length}px`;
  small("composition", [{ type: "bar", orientation: "h", x: values, y: labels, text: values.map(String),
    textposition: "auto", hoverinfo: "skip",
    marker: { color: [...order.map((label) => R.colours[label]), "#8C8C8C"].slice(0, labels.length) } }],
  { xaxis: { title: { text: "samples" }, nticks: 5 }, yaxis: { type: "category", autorange: "reversed", automargin: true },
    margin: { l: 8, r: 8, t: 4, b: 36 } });
}
function bars(node) {
  const place = $("bars");
  if (!place) return;
  const { names, prototypes: P, relevances: W, mean, low, high } = R.features;
  const constant = (f) => low && low[f] === high[f];  // tells nothing apart, however relevant it counts
  const weight = (f) => (constant(f) ? -1 : W ? W[node][f] : Math.abs(P[node][f] - mean[f]));
  const order = names.map((_, f) => f).sort((a, b) => weight(b) - weight(a)).slice(0, 18);
  const y = order.map((f) => names[f]);
  const raw = order.map((f) => (low ? low[f] + P[node][f] * (high[f] - low[f]) : P[node][f]).toPrecision(4));
  place.style.height = `${86 + 20 * y.length}px`;
  const data = [];
  if (W) data.push({ type: "bar", orientation: "h", name: "relevance", y, x: order.map((f) => W[node][f]),
    marker: { color: "#5B6FD0", opacity: 0.55 }, hovertemplate: "%{y}: relevance %{x:.3f}<extra></extra>" });
  data.push({ type: "scatter", mode: "markers", name: "mean of all", y, x: order.map((f) => mean[f]),
    marker: { symbol: "line-ns-open", size: 11, color: "#8C8C8C", line: { width: 2 } },
    hovertemplate: "%{y}: mean of all nodes %{x:.3f}<extra></extra>" });
  data.push({ type: "scatter", mode: "markers", name: "prototype", y, x: order.map((f) => P[node][f]), customdata: raw,
    marker: { symbol: "diamond", size: 9, color: "#EE7733" }, hovertemplate: "%{y}: prototype %{customdata}<extra></extra>" });
  small("bars", data, { margin: { l: 8, r: 8, t: 30, b: 26 }, legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
    yaxis: { type: "category", autorange: "reversed", automargin: true, dtick: 1, tickfont: { size: 11 } },
    xaxis: { rangemode: "tozero" } });
}

// ---- the map: colours, pictures, keys
function colouring() {
  const place = $("map"), mode = $("mode").value, last = place.data.length - 2;
  const classes = mode === "class";
  const visible = place.data.map((_, n) => (n === 0 || n === last + 1 || (n === last) !== classes));
  Plotly.restyle(place, { visible });
  if (classes) return;
  Plotly.restyle(place, { "marker.color": [R.measures[mode]], "marker.colorbar.title.text": $("mode").selectedOptions[0].text },
    [last]);
}
async function faces() {
  if (!$("faces").checked) { Plotly.relayout("map", { images: [] }); return; }
  const { sheets: uris, columns, width, height } = R.pictures, per = columns * columns;
  const loaded = await Promise.all(uris.map((uri) => new Promise((done) => {
    const image = new Image();
    image.onload = () => done(image);
    image.src = uri;
  })));
  const zoom = Math.max(1, Math.round(56 / width)), canvas = document.createElement("canvas"), rim = 3;
  canvas.width = width * zoom + 2 * rim;
  canvas.height = height * zoom + 2 * rim;
  const brush = canvas.getContext("2d");
  const images = R.nodes.map((info, node) => {
    if (info.picture == null) return null;
    const own = info.class >= 0 ? info.class : info.majority, place = info.picture % per;
    brush.fillStyle = own >= 0 ? R.colours[own] : "#8C8C8C";
    brush.fillRect(0, 0, canvas.width, canvas.height);
    brush.imageSmoothingEnabled = false;
    brush.drawImage(loaded[Math.floor(info.picture / per)], (place % columns) * width,
      Math.floor(place / columns) * height, width, height, rim, rim, width * zoom, height * zoom);
    return { source: canvas.toDataURL(), xref: "x", yref: "y", x: R.at.map[node][0], y: R.at.map[node][1],
      sizex: R.spacing, sizey: R.spacing, xanchor: "center", yanchor: "middle", layer: "above" };
  });
  Plotly.relayout("map", { images: images.filter(Boolean) });
}
function walk(event) {
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (!way) return;
  event.preventDefault();
  if (selected < 0) { select(Number($("node").options[0].value)); return; }
  const [x, y] = R.at.map[selected];
  let best = -1, least = Infinity;
  R.at.map.forEach(([u, v], node) => {
    const along = (u - x) * way[0] + (v - y) * way[1], aside = Math.abs((u - x) * way[1]) + Math.abs((v - y) * way[0]);
    if (along > 1e-9 && aside <= 1.5 * along && along + 2 * aside < least) { least = along + 2 * aside; best = node; }
  });
  if (best >= 0) select(best);
}

// ---- planes of one feature
function plane(id, values) {
  if (!$(id) || !drawn.has(id)) return;
  if (R.grid) Plotly.restyle(id, { z: [R.grid.map((row) => row.map((n) => (n < 0 ? null : values[n])))] });
  else Plotly.restyle(id, { "marker.color": [values] }, [1]);
}
function feature() {
  if (!$("feature")) return;
  const f = Number($("feature").value);
  plane("component", R.features.prototypes.map((row) => row[f]));
  if (R.features.relevances) plane("relevance", R.features.relevances.map((row) => row[f]));
}

// ---- growth
let playing = null;
function moment() {
  const slider = $("moment");
  if (!slider || !drawn.has("growth")) return;
  const now = R.moments[Number(slider.value)], ex = [], ey = [];
  for (let k = 0; k < now.e.length; k += 2) {
    const [a, b] = [now.e[k], now.e[k + 1]];
    ex.push(now.x[a], now.x[b], null);
    ey.push(now.y[a], now.y[b], null);
  }
  const text = `after round ${now.round}, epoch ${now.epoch}: ${now.x.length} nodes`;
  $("moment-text").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  Plotly.restyle("growth", { x: [ex, now.x], y: [ey, now.y] }, [1, 2]);
  Plotly.restyle("growth", { "marker.color": [now.c.map((c) => (c < 0 ? "#8C8C8C" : R.colours[c]))],
    "marker.symbol": [now.c.map((c) => (c < 0 ? "circle" : R.marks[c]))],
    text: [now.n.map((n, k) => `node ${n}${now.c[k] < 0 ? "" : `<br>class ${R.classLabels[now.c[k]]}`}`)] }, [2]);
  if (drawn.has("curves")) Plotly.relayout("curves", { "shapes[0].x0": now.epoch, "shapes[0].x1": now.epoch });
}
function play() {
  const slider = $("moment"), button = $("play");
  if (playing) { clearInterval(playing); playing = null; button.textContent = "Play"; return; }
  if (slider.value === slider.max) slider.value = 0;
  button.textContent = "Pause";
  moment();
  playing = setInterval(() => {
    if (slider.value === slider.max) { play(); return; }
    slider.value = Number(slider.value) + 1;
    moment();
  }, 700);
}

// ---- begin
const on = (id, kind, act) => { if ($(id)) $(id).addEventListener(kind, act); };
if (R.pictures && R.pictures.total) sheets();
show(tabs[0]);
on("mode", "change", colouring);
on("faces", "change", faces);
on("map", "keydown", walk);
on("feature", "change", feature);
on("moment", "input", moment);
on("play", "click", play);
on("node", "change", () => select(Number($("node").value)));
for (const [id, step] of [["before", -1], ["after", 1]]) {
  on(id, "click", () => {
    const list = $("node"), next = Math.min(Math.max(list.selectedIndex + step, 0), list.options.length - 1);
    select(Number(list.options[next].value));
  });
}
for (const choice of document.querySelectorAll("select[data-choose]")) {
  choice.addEventListener("change", () => {
    for (const option of choice.options) {
      $(option.value).closest("figure").hidden = option.value !== choice.value;
    }
    if (drawn.has(choice.value)) Plotly.Plots.resize(choice.value);
    else draw(choice.value);
  });
}
if (R.nodes) select(Number($("node").value));
document.documentElement.dataset.ready = "true";
