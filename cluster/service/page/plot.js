// The front as a scatter plot: two objectives at a time, every point a button.

import { percent, s } from "./dom.js";

const WIDTH = 720, HEIGHT = 460, LEFT = 62, RIGHT = 18, TOP = 16, BOTTOM = 52;
export const KINDS = { merge: "a merge", expert: "an expert", baseline: "a data mix", base: "the base" };

export const label = (point) => (point.kind === "merge" ? `#${point.id}` : point.id);

// A shape for each kind, so that colour is never the only sign.
export function shape(kind, x, y, r) {
  if (kind === "merge") return s("circle", { class: "dot", cx: x, cy: y, r });
  if (kind === "expert") return s("rect", { class: "dot", x: x - r, y: y - r, width: 2 * r, height: 2 * r });
  const d = kind === "baseline"
    ? `M${x} ${y - 1.3 * r}L${x + 1.2 * r} ${y + r}H${x - 1.2 * r}Z`
    : `M${x} ${y - 1.4 * r}L${x + 1.4 * r} ${y}L${x} ${y + 1.4 * r}L${x - 1.4 * r} ${y}Z`;
  return s("path", { class: "dot", d });
}

function ticks(low, high) {
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
  return found;
}

function scale(values, from, to) {
  let low = Math.min(...values), high = Math.max(...values);
  const room = (high - low || 0.1) * 0.07;
  low -= room;
  high += room;
  return { low, high, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

// Draws into `svg`; `choose(id)` is called when a point is chosen by mouse, touch or key.
export function draw(svg, front, xName, yName, chosen, choose) {
  const focused = svg.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  const points = front.points.filter((point) => point.scores[xName] && point.scores[yName]);
  const value = (point, name) => point.scores[name].value;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.replaceChildren();
  if (!points.length) return;
  const x = scale(points.map((p) => value(p, xName)), LEFT, WIDTH - RIGHT);
  const y = scale(points.map((p) => value(p, yName)), HEIGHT - BOTTOM, TOP);
  axes(svg, x, y, direction(front, xName), direction(front, yName));
  const on = points.filter((p) => p.on_front).sort((a, b) => value(a, xName) - value(b, xName));
  if (Object.keys(front.objectives).length === 2 && on.length > 1) {
    svg.append(s("polyline", { class: "frontier", points: on.map((p) => `${x.at(value(p, xName))},${y.at(value(p, yName))}`).join(" ") }));
  }
  // Those of the front last, so that they lie on top; keys walk from left to right.
  const order = [...points].sort((a, b) => value(a, xName) - value(b, xName));
  const picks = new Map(Object.entries(front.picks).reverse().map(([pick, id]) => [id, pick]));
  const current = order.some((p) => p.id === chosen) ? chosen : (on[0] || order[0]).id;
  const drawn = new Map();
  for (const point of [...order].sort((a, b) => a.on_front - b.on_front)) {
    const group = mark(point, x, y, xName, yName, picks.get(point.id), point.id === chosen);
    group.setAttribute("tabindex", point.id === current ? 0 : -1);
    group.addEventListener("click", () => choose(point.id));
    drawn.set(point.id, group);
    svg.append(group);
  }
  svg.onkeydown = (event) => {
    const id = event.target.dataset?.id;
    if (!id) return;
    const at = order.findIndex((p) => p.id === id);
    const next = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: order.length - 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(id);
    } else if (next !== undefined) {
      event.preventDefault();
      const target = drawn.get(order[Math.max(0, Math.min(order.length - 1, next))].id);
      for (const other of drawn.values()) other.setAttribute("tabindex", -1);
      target.setAttribute("tabindex", 0);
      target.focus();
    }
  };
  if (focused) drawn.get(focused)?.focus();
}

const direction = (front, name) => `${name} (%, ${front.objectives[name] === "min" ? "lower" : "higher"} is better)`;

function axes(svg, x, y, xText, yText) {
  for (const value of ticks(x.low, x.high)) {
    svg.append(s("line", { class: "grid", x1: x.at(value), x2: x.at(value), y1: TOP, y2: HEIGHT - BOTTOM }));
    svg.append(s("text", { x: x.at(value), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, shown(value)));
  }
  for (const value of ticks(y.low, y.high)) {
    svg.append(s("line", { class: "grid", y1: y.at(value), y2: y.at(value), x1: LEFT, x2: WIDTH - RIGHT }));
    svg.append(s("text", { x: LEFT - 8, y: y.at(value) + 4, "text-anchor": "end" }, shown(value)));
  }
  svg.append(s("path", { class: "axis", fill: "none", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }));
  svg.append(s("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 10, "text-anchor": "middle" }, xText));
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  svg.append(s("text", { x: 15, y: middle, "text-anchor": "middle", transform: `rotate(-90 15 ${middle})` }, yText));
}

const shown = (value) => String(Number((100 * value).toPrecision(6)));

function mark(point, x, y, xName, yName, pick, chosen) {
  const [sx, sy] = [point.scores[xName], point.scores[yName]];
  const [px, py] = [x.at(sx.value), y.at(sy.value)];
  const r = point.on_front ? 6 : 4;
  const text = `${label(point)}, ${KINDS[point.kind]}${pick ? `, ${pick}` : ""}: ${xName} ${percent(sx)}, ${yName} ${percent(sy)}${point.on_front ? ", on the front" : ""}`;
  const group = s("g", {
    class: `point ${point.kind} ${point.on_front ? "on" : "off"}`, role: "button", "aria-label": text, "aria-pressed": String(chosen), "data-id": point.id,
  }, s("title", {}, text));
  if (point.on_front) {
    const bounds = (score, axis) => [axis.at(score.low ?? score.value - score.stderr), axis.at(score.high ?? score.value + score.stderr)];
    const [x1, x2] = bounds(sx, x), [y1, y2] = bounds(sy, y);
    group.append(s("line", { class: "error", x1, x2, y1: py, y2: py }), s("line", { class: "error", x1: px, x2: px, y1, y2 }));
  }
  group.append(s("circle", { class: "ring", cx: px, cy: py, r: r + 5 }), shape(point.kind, px, py, r));
  if (pick) {
    const left = px > WIDTH - 130;
    group.append(s("text", { x: px + (left ? -12 : 12), y: py - 9, "text-anchor": left ? "end" : "start" }, pick));
  }
  return group;
}
