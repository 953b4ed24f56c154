// Elements from data. Text is always text: nothing that a recipe or a log holds is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const h = (name, attributes, ...children) => made(document.createElement(name), attributes, children);
export const s = (name, attributes, ...children) => made(document.createElementNS(SVG, name), attributes, children);

export const say = (text) => { document.getElementById("said").textContent = text; };

export const percent = (score) => (score ? `${(100 * score.value).toFixed(1)} ± ${(100 * score.stderr).toFixed(1)}` : "–");
export const when = (seconds) => (seconds ? new Date(1000 * seconds).toLocaleString() : "–");

export function size(bytes) {
  for (const [unit, factor] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= factor) return `${(bytes / factor).toPrecision(3)} ${unit}`;
  }
  return `${bytes} bytes`;
}

export function progressOf(job) {
  const p = job.progress;
  if (!p.of) return { share: 0, text: job.state === "RUNNING" ? "starting" : "" };
  if (p.stage === "experts") return { share: p.to_train ? p.trained / p.to_train : 0, text: `experts: ${p.trained} of ${p.to_train} trained` };
  return { share: p.share, text: `${p.stage}: ${p.scored} of ${p.of} scored` };
}

export function bar(progress, label) {
  return h("progress", { class: "bar", max: 1, value: progress.share, "aria-label": `${label}: ${progress.text || "not begun"}` });
}
