// Requests to the server; a refusal is thrown as its problem.
import {$} from "./dom.js";

const TRIES = 6;
const BLOCK_LINES = 256;
const BLOCK_CHARACTERS = 12000; // up to 48 kB in UTF-8, which fits into the buffers between: answers are read after all was sent

export const headers = () => $("key").value ? {Authorization: "Bearer " + $("key").value} : {};

const unreachable = {title: "No answer", code: "", detail: "The server cannot be reached, or closed the connection.",
  remedy: "Check that it runs and that the file may be that large, then try again."};

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, {once: true});
  });
}

// Sends again what a full or restarting server refused, after the seconds it names.
async function send(path, options) {
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(path, {method: "POST", ...options, headers: {...headers(), ...options.headers}});
    } catch (error) {
      throw error.name === "AbortError" ? error : unreachable;
    }
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({...unreachable, title: `Status ${response.status}`}));
    if (response.status === 401) $("locked").hidden = false;
    if (![429, 503].includes(response.status) || attempt === TRIES) throw {...problem, retryAfter: response.headers.get("Retry-After")};
    await pause(Number(response.headers.get("Retry-After")) || 1, options.signal);
  }
}

// An answer about genres, artists or tags gets the members that this page reads; they are no part of its JSON.
function readable(found) {
  const ranked = found.genres || found.artists || found.tags;
  if (found.language || !ranked) return found;
  const members = {language: found.genre || found.artist || ranked[0].code, languages: ranked, probability: ranked[0].probability};
  for (const [name, value] of Object.entries(members)) Object.defineProperty(found, name, {value});
  (found.timeline || []).forEach(readable);
  return found;
}

export async function identify(song, signal) {
  const form = new FormData();
  if (song.file) form.append("audio", song.file);
  for (const [name, value] of Object.entries(song.names)) if (value.trim()) form.append(name, value);
  for (const name of ["explain", ...($("timeline").checked ? ["timeline"] : [])]) form.append(name, "true");
  if (song.file && song.edited && !Object.values(song.names).some(value => value.trim())) form.append("tags", "false");
  const response = await send("identify", {body: form, signal});
  return readable({...await response.json(), requestId: response.headers.get("X-Request-Id")});
}

// Names, in order; each answer or problem as it comes.
export async function identifyList(rows, onAnswer, signal) {
  for (let first = 0; first < rows.length;) {
    const lines = [];
    for (let size = 0; first + lines.length < rows.length && lines.length < BLOCK_LINES && size < BLOCK_CHARACTERS; size += lines.at(-1).length)
      lines.push(JSON.stringify({...rows[first + lines.length].names, id: 0}));
    const response = await send("identify/batch?top_k=2", {body: lines.join("\n"), headers: {"Content-Type": "application/x-ndjson"}, signal});
    const answers = (await response.text()).split("\n").filter(Boolean).map(line => JSON.parse(line));
    if (answers.length && answers.at(-1).id === null && ["draining", "deadline_exceeded"].includes(answers.at(-1).code)) {
      const ended = answers.pop();
      if (!answers.length) throw ended;
    }
    for (const answer of answers) onAnswer(rows[first++], answer);
  }
}

export async function correct(answer, correction) {
  await send("feedback", {body: JSON.stringify({id: answer.requestId, answer: answer.language, correction}),
    headers: {"Content-Type": "application/json"}, signal: new AbortController().signal});
}
