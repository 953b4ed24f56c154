// One job: its state, progress, front, log and history, while it runs and after.

import { call, events, json } from "./api.js";
import { bar, h, progressOf, say, when } from "./dom.js";
import { frontView } from "./front.js";
import { pause } from "./jobs.js";

const EVERY_MS = 1500, LINES = 1000;
const ENDED = ["DONE", "FAILED", "CANCELLED"];

export async function showJob(main, id, signal, report) {
  const head = h("div"), history = h("tbody"), log = h("pre", { class: "log", tabindex: 0, role: "log", "aria-label": "Log of the job" });
  const front = frontView(id, signal, report);
  const title = h("h1", {}, id);
  const cancel = h("button", { type: "button", hidden: true }, "Cancel job");
  cancel.addEventListener("click", () => stop(id, cancel, report));
  main.append(
    h("p", {}, h("a", { href: "#/" }, "All jobs")),
    h("div", { class: "row" }, title, cancel),
    head,
    front.element,
    h("h2", {}, "Log"), log,
    h("h2", {}, "History"),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["When", "State", "Why"].map((name) => h("th", { scope: "col" }, name)))), history)),
  );
  follow(id, log, signal);
  let before = "", state = "";
  while (!signal.aborted) {
    try {
      const job = await json(`/jobs/${id}`, { signal });
      report(null);
      title.textContent = job.name;
      document.title = `${job.name} (${job.state}) – mergefront`;
      cancel.hidden = ENDED.includes(job.state);
      cancel.disabled = job.state === "CANCELLING";
      head.replaceChildren(...facts(job));
      history.replaceChildren(...job.events.map((event) => h("tr", {},
        h("td", {}, when(event.at)), h("td", {}, h("span", { class: `state ${event.state}` }, event.state)), h("td", { class: "wide" }, event.reason))));
      if (job.state !== state) say(`Job ${job.name}: ${job.state}`);
      state = job.state;
      const now = JSON.stringify([job.progress, job.state]);
      if (now !== before) {
        await front.update();
        before = now;
      }
      if (ENDED.includes(job.state)) return;
    } catch (error) {
      if (signal.aborted) return;
      report(error);
      if (error.status === 404) {
        main.replaceChildren(h("p", {}, h("a", { href: "#/" }, "All jobs")), h("p", { class: "notice" }, error.message));
        return;
      }
    }
    await pause(EVERY_MS, signal);
  }
}

function facts(job) {
  const progress = progressOf(job);
  const fact = (name, value, attributes) => h("div", attributes, h("dt", {}, name), h("dd", {}, value));
  const needs = `${job.needs.cpus} CPUs${job.needs.gpus ? `, ${job.needs.gpus} GPUs` : ""}`;
  return [
    h("dl", { class: "facts" },
      fact("State", h("span", { class: `state ${job.state}` }, job.state)),
      fact("Attempt", `${job.attempt} of ${job.attempts}`),
      fact("Priority", String(job.priority)),
      fact("Holds", needs),
      fact("Submitted", when(job.created)),
      fact("Started", when(job.started)),
      fact("Ended", when(job.finished)),
      fact("Progress", progress.text ? [bar(progress, job.name), progress.text] : "not begun", { class: "stretch" })),
    ...(job.reason ? [h("p", { class: job.state === "FAILED" ? "notice" : "quiet" }, job.reason)] : []),
  ];
}

async function stop(id, button, report) {
  if (!confirm("Cancel this job? What ran is kept.")) return;
  button.disabled = true;
  try {
    await call(`/jobs/${id}/cancel`, { method: "POST" });
    say("Cancellation was asked for.");
  } catch (error) {
    button.disabled = false;
    report(error);
  }
}

async function follow(id, log, signal) {
  let offset = 0;
  while (!signal.aborted) {
    try {
      for await (const event of events(`/jobs/${id}/logs?follow=true&offset=${offset}`, signal)) {
        if (event.event === "end") return;
        offset = event.id;
        const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
        log.append(`${JSON.parse(event.data)}\n`);
        while (log.childNodes.length > LINES) log.firstChild.remove();
        if (atEnd) log.scrollTop = log.scrollHeight;
      }
    } catch { /* the other requests of this page say what is wrong */ }
    await pause(2000, signal);
  }
}
