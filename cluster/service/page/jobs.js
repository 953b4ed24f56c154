// The list of jobs, kept up to date.

import { json } from "./api.js";
import { bar, h, progressOf, when } from "./dom.js";

const EVERY_MS = 2000;

export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

export async function showJobs(main, signal, report) {
  const body = h("tbody");
  const empty = h("p", { class: "quiet", hidden: true }, "No jobs yet. Submit one: ", h("code", {}, "mergefront submit recipe.yaml"));
  const columns = ["Job", "Name", "Owner", "State", "Progress", "Submitted"];
  main.append(
    h("h1", {}, "Jobs"),
    empty,
    h("div", { class: "scroll" },
      h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))), body)),
  );
  let shown = "";
  while (!signal.aborted) {
    try {
      const { jobs } = await json("/jobs?limit=100", { signal });
      report(null);
      empty.hidden = jobs.length > 0;
      body.parentElement.hidden = jobs.length === 0;
      const now = JSON.stringify(jobs);
      if (now !== shown) {
        shown = now;
        const focused = document.activeElement?.getAttribute("href");
        body.replaceChildren(...jobs.map(row));
        if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
      }
    } catch (error) {
      if (signal.aborted) return;
      report(error);
    }
    await pause(EVERY_MS, signal);
  }
}

function row(job) {
  const progress = progressOf(job);
  return h("tr", {},
    h("td", {}, h("a", { href: `#/jobs/${job.id}` }, job.id)),
    h("td", {}, job.name),
    h("td", {}, job.owner),
    h("td", {}, h("span", { class: `state ${job.state}` }, job.state)),
    h("td", { class: "wide" }, progress.text ? [bar(progress, job.name), h("span", { class: "quiet" }, progress.text)] : job.reason),
    h("td", {}, when(job.created)));
}
