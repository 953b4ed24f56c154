// What is shown: the list of jobs, one job, or the question for a token.

import * as api from "./api.js";
import { h } from "./dom.js";
import { showJob } from "./job.js";
import { showJobs } from "./jobs.js";

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const forget = document.getElementById("forget");
let leave = new AbortController();

export function report(error) {
  connection.textContent = error ? error.message : "";
  if (error && error.status === 401) ask(error.message);
}

function ask(why) {
  leave.abort();
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const enter = (event) => {
    event.preventDefault();
    api.keep(input.value.trim());
    connection.textContent = "";
    route();
  };
  main.replaceChildren(
    h("form", { class: "login panel", onsubmit: enter },
      h("h1", {}, "Token"),
      h("p", { class: "quiet" }, why),
      h("label", { for: "token" }, "Token of this service"),
      input,
      h("button", { class: "primary", type: "submit" }, "Show jobs")),
  );
  forget.hidden = true;
  input.focus();
}

function route() {
  api.take();
  leave.abort();
  leave = new AbortController();
  forget.hidden = !api.known();
  const job = location.hash.match(/^#\/jobs\/([0-9a-f]{12})$/);
  document.title = job ? `${job[1]} – mergefront` : "mergefront";
  main.replaceChildren();
  (job ? showJob(main, job[1], leave.signal, report) : showJobs(main, leave.signal, report));
}

forget.addEventListener("click", () => { api.keep(""); ask("The token was forgotten on this page."); });
addEventListener("hashchange", () => {
  if (location.hash === "#main") return main.focus();
  route();
  main.focus({ preventScroll: true });
});
route();
