// The panel of notebook 01 without a kernel: what gluon_bn/experiments/panel.py computes and draws.
// PANEL holds that module's UNIT, DEFAULTS and RANGES.
function beforeAndAfter({ gamma, beta, batch_size, offset, scale }) {
  const X = PANEL.UNIT.slice(0, batch_size).map((unit) => offset + scale * unit);
  const mean = X.reduce((sum, x) => sum + x, 0) / X.length;
  const variance = X.reduce((sum, x) => sum + (x - mean) ** 2, 0) / X.length;
  const Y = X.map((x) => (gamma * (x - mean)) / Math.sqrt(variance + 1e-5) + beta);
  return { X, Y };
}

function histogram(name, values, color, top) {
  const [width, height, lowest, step] = [480, 110, -12.125, 0.25];
  const counts = new Array(97).fill(0);
  for (const value of values) counts[Math.floor((value - lowest) / step)] += 1;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const std = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  const bars = counts.map((count, i) => {
    const high = (height * count) / Math.max(...counts);
    return count ? `<rect x="${(i * width) / 97}" y="${top + height - high}" width="${width / 97}" height="${high}"/>` : "";
  });
  const text = `${name}: mean ${(mean + 0).toFixed(2).replace("-0.00", "0.00")}, std ${std.toFixed(2)}`;
  const ticks = [-10, -5, 0, 5, 10].map(
    (x) => `<text x="${((x - lowest) / step / 97) * width}" y="${top + height + 14}" text-anchor="middle">${x}</text>`);
  return `<text class="${name}" x="0" y="${top - 6}">${text}</text><g fill="${color}">${bars.join("")}</g>${ticks.join("")}
    <line x1="0" x2="${width}" y1="${top + height}" y2="${top + height}" stroke="black"/>`;
}

document.addEventListener("DOMContentLoaded", () => {
  if (typeof PANEL === "undefined") return; // another page
  const cell = [...document.querySelectorAll(".cell")].find((cell) => cell.querySelector("pre")?.textContent.trim() === "panel.show()");
  const values = { ...PANEL.DEFAULTS };
  const box = document.createElement("div");
  box.className = "controls";
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "0 -2 480 302");
  picture.setAttribute("role", "img");
  picture.setAttribute("font-size", "13");
  const redraw = () => {
    const { X, Y } = beforeAndAfter(values);
    picture.innerHTML = histogram("X", X, PANEL.COLORS[0], 20) + histogram("Y", Y, PANEL.COLORS[1], 170);
    picture.setAttribute("aria-label", [...picture.querySelectorAll("text[class]")].map((t) => t.textContent).join("; "));
  };
  for (const [name, [min, max, step]] of Object.entries(PANEL.RANGES)) {
    const label = document.createElement("label");
    const slider = Object.assign(document.createElement("input"), { type: "range", name, min, max, step });
    const shown = document.createElement("output");
    slider.value = shown.value = values[name];
    slider.addEventListener("input", () => {
      values[name] = Number((shown.value = slider.value));
      redraw();
    });
    label.append(name, slider, shown);
    box.append(label);
  }
  redraw();
  box.append(picture);
  (cell.querySelector(".cell_output") || cell).replaceChildren(box);
});
