"use strict";
// Sliders, gallery and printing. Without this script the page shows all the same,
// at the thresholds chosen on val.

const BINS = 40;
const COUNTS = ["tp", "fp", "fn", "tn"];
const WIDTH = 400, MIDDLE = 75, TALLEST = 56;

function show(number) {
  return number === null ? "–" : number.toFixed(3);
}

// Scores, exact: base64 of little-endian floats.
function unpack(packed) {
  const [[kind, text]] = Object.entries(packed);
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const read = kind === "float32" ? "getFloat32" : "getFloat64";
  const size = kind === "float32" ? 4 : 8;
  return Float64Array.from({ length: bytes.length / size },
    (_, i) => view[read](i * size, true));
}

// How many of the rising scores are at the threshold or above.
function countFrom(scores, threshold) {
  let low = 0, high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle] < threshold) low = middle + 1;
    else high = middle;
  }
  return scores.length - low;
}

function decide(one, threshold) {
  const share = (part, whole) => (whole ? part / whole : null);
  const tp = countFrom(one.positives, threshold);
  const fp = countFrom(one.negatives, threshold);
  const fn = one.positives.length - tp, tn = one.negatives.length - fp;
  return {
    tp, fp, fn, tn,
    sensitivity: share(tp, tp + fn),
    specificity: share(tn, tn + fp),
    ppv: share(tp, tp + fp),
    npv: share(tn, tn + fn),
    accuracy: share(tp + tn, tp + fp + fn + tn),
    f1: share(2 * tp, 2 * tp + fp + fn),
  };
}

// A new element of the picture, inside `parent`.
function draw(parent, name, attributes) {
  const made = document.createElementNS(parent.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function histogram(scores) {
  const counts = new Array(BINS).fill(0);
  for (const score of scores) counts[Math.min(BINS - 1, Math.floor(score * BINS))] += 1;
  return counts;
}

// Bars of both sides, twice: pale below the threshold, full from there on.
function drawScores(svg, one, id) {
  const up = histogram(one.positives), down = histogram(one.negatives);
  const height = (count) => TALLEST * Math.sqrt(count / Math.max(1, ...up, ...down));
  const step = WIDTH / BINS;
  svg.replaceChildren();
  const said = draw(svg, "clipPath", { id: `${id}-said` });
  const clip = draw(said, "rect", { y: 0, height: 2 * MIDDLE, width: WIDTH });
  for (const side of ["pale", "full"]) {
    const group = draw(svg, "g", { class: side });
    if (side === "full") group.setAttribute("clip-path", `url(#${id}-said)`);
    for (let bin = 0; bin < BINS; bin += 1) {
      const box = { x: bin * step + 0.5, width: step - 1 }, tall = height(up[bin]);
      draw(group, "rect", { ...box, y: MIDDLE - tall, height: tall, class: "is" });
      draw(group, "rect", { ...box, y: MIDDLE, height: height(down[bin]), class: "not" });
    }
  }
  draw(svg, "line", { x1: 0, x2: WIDTH, y1: MIDDLE, y2: MIDDLE, class: "axis" });
  const line = draw(svg, "line", { y1: 12, y2: 2 * MIDDLE - 12, class: "cut" });
  const corners = [["fn", 0, 10], ["tp", WIDTH, 10], ["tn", 0, 148], ["fp", WIDTH, 148]];
  const labels = corners.map(([name, x, y]) =>
    [name, draw(svg, "text", { x, y, "text-anchor": x ? "end" : "start" })]);
  return (threshold, found) => {
    const x = WIDTH * Math.min(1, Math.max(0, threshold));
    clip.setAttribute("x", x);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    for (const [name, text] of labels) text.textContent = `${name.toUpperCase()} ${found[name]}`;
  };
}

function explore(panel, runs) {
  const find = (selector) => panel.querySelector(selector);
  const slider = find("input[type=range]"), field = find("input[type=number]");
  const reset = find("[data-reset]"), state = find("[data-state]"), svg = find("svg");
  const put = (name, number, text) => {
    for (const place of panel.querySelectorAll(`[data-show="${name}"]`)) {
      if (place.localName === "data") place.value = number === null ? "" : String(number);
      place.textContent = text;
    }
  };
  let one, move;

  function set(threshold) {
    const found = decide(one, threshold);
    for (const [name, number] of Object.entries(found)) {
      put(name, number, COUNTS.includes(name) ? number.toLocaleString("en") : show(number));
    }
    move(threshold, found);
    slider.value = threshold;
    const words = `sensitivity ${show(found.sensitivity)}, specificity ${show(found.specificity)}`;
    slider.setAttribute("aria-valuetext", `${show(threshold)}: ${words}`);
    const chosen = threshold === one.threshold;
    panel.classList.toggle("moved", !chosen);
    reset.disabled = chosen || one.threshold === null;
    if (chosen) state.textContent = `At ${show(threshold)}, the threshold chosen on val.`;
    else if (one.threshold === null) state.textContent = `No threshold could be chosen on val: ${one.reason}.`;
    else state.textContent = `Moved to ${show(threshold)}, for looking only; chosen on val: ${show(one.threshold)}.`;
  }

  function begin() {
    const picked = (what) => Number(find(`[data-pick=${what}]`).value);
    const of = runs[picked("run")].classes[picked("class")];
    one = { ...of, positives: unpack(of.positives), negatives: unpack(of.negatives) };
    put("name", null, one.name);
    const known = one.threshold === null ? {} : decide(one, one.threshold);
    for (const place of panel.querySelectorAll("[data-show^='val-']")) {
      const number = known[place.dataset.show.slice(4)] ?? null;
      put(place.dataset.show, number, show(number));
    }
    move = drawScores(svg, one, panel.id);
    back();
  }

  function back() {
    const start = one.threshold ?? 0.5;
    field.value = start.toFixed(4);
    set(start);
  }

  slider.addEventListener("input", () => {
    field.value = Number(slider.value).toFixed(4);
    set(Number(slider.value));
  });
  field.addEventListener("input", () => {
    if (field.value !== "" && Number.isFinite(field.valueAsNumber)) set(field.valueAsNumber);
  });
  reset.addEventListener("click", back);
  for (const choice of panel.querySelectorAll("[data-pick]")) choice.addEventListener("change", begin);
  for (const hidden of panel.querySelectorAll(".live")) hidden.removeAttribute("hidden");
  begin();
}

function startExplorers() {
  const scores = document.getElementById("scores");
  if (!scores) return;
  const panels = document.querySelectorAll(".explorer"), data = JSON.parse(scores.textContent);
  panels.forEach((panel, index) => explore(panel, data[index]));
}

function startGallery() {
  const bar = document.querySelector(".filters");
  if (!bar) return;
  const groups = [...document.querySelectorAll(".of-arm")];
  const told = bar.querySelector("output"), arm = bar.querySelector("[data-arms]");
  const all = bar.querySelector("input[type=checkbox]");
  function filter() {
    const wanted = [...bar.querySelectorAll("[data-by]")].filter((choice) => choice.value);
    let shown = 0, count = 0;
    for (const group of groups) {
      const items = [...group.querySelectorAll(".item")];
      for (const item of items)
        item.hidden = !wanted.every((choice) =>
          JSON.parse(item.dataset[choice.dataset.by]).includes(choice.value));
      const left = items.filter((item) => !item.hidden).length;
      group.hidden = Boolean(arm?.value) && group.dataset.arm !== arm.value;
      group.classList.toggle("empty", left === 0);
      shown += group.hidden ? 0 : left;
      count += items.length;
    }
    told.textContent = `${shown} of ${count} shown`;
  }
  for (const choice of bar.querySelectorAll("select")) choice.addEventListener("change", filter);
  for (const button of document.querySelectorAll(".peek"))
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    });
  all.addEventListener("change", () => {
    for (const button of document.querySelectorAll(".peek")) button.setAttribute("aria-pressed", all.checked);
  });
  bar.hidden = false;
  filter();
}

// On paper nothing is folded away.
function startPrinting() {
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
}

startExplorers();
startGallery();
startPrinting();
