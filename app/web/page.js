// What the page does with what is clicked, dropped and typed.
import {knowLanguages, parts} from "./answer.js";
import {headers, identify, identifyList} from "./api.js";
import {$, button, el} from "./dom.js";
import {all, count, fill, mark, refresh, save} from "./table.js";
import {nameOf} from "./words.js";

const AT_ONCE = 3; // files on their way together
const SHOWN_EVERY = 64; // rows of a list
const NAMES = ["title", "artist", "album"];
const EXAMPLES = [
  {title: "La vie en rose", artist: "Édith Piaf"},
  {title: "Garota de Ipanema", artist: "Tom Jobim"},
  {title: "上を向いて歩こう", artist: "坂本九"},
];
let chosen = [], running = null;

const label = names => NAMES.map(name => names[name]).filter(Boolean).join(" · ") || (names.lyrics || "").trim().split("\n")[0] || "(nothing)";

const songOf = (file, names) => ({file, names, label: file ? file.name : label(names)});

// --- answers ---

function show(song) {
  mark(song);
  $("result").hidden = false;
  $("result").replaceChildren(...parts(song, names => askAgain(song, names)));
}

function open(song) {
  show(song);
  $("result").focus();
}

function refuse(problem) {
  const wait = problem.retryAfter ? ` (Retry-After: ${problem.retryAfter} s)` : "";
  $("problem").replaceChildren(el("h2", {}, problem.title), el("p", {}, problem.detail || ""), el("p", {}, (problem.remedy || "") + wait),
    el("p", {class: "soft"}, [problem.code, problem.request_id].filter(Boolean).join(" · ")));
  $("problem").hidden = false;
}

async function ask(song, signal) {
  song.busy = true;
  delete song.answer; delete song.problem;
  refresh(song);
  try {
    song.answer = await identify(song, signal);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!error.title) throw error;
    song.problem = error;
  } finally {
    song.busy = false;
    refresh(song);
  }
}

// --- runs ---

async function run(songs, work) {
  if (running) running.abort();
  const mine = running = new AbortController();
  $("problem").hidden = $("result").hidden = true;
  $("stop").hidden = false;
  try {
    await work(mine.signal);
  } catch (error) {
    if (error.name !== "AbortError") refuse(error.title ? error : {title: "The page failed", detail: String(error), remedy: "Reload it."});
  }
  if (running !== mine) return;
  running = null;
  $("stop").hidden = true;
  finish(songs);
}

function finish(songs) {
  const failed = songs.filter(song => song.problem).length, left = songs.filter(song => !song.answer && !song.problem).length;
  if (songs.length > 1) $("status").textContent = [`${songs.length - failed - left} answered`, failed && `${failed} failed`, left && `${left} not asked`].filter(Boolean).join(", ") + ".";
  else tell(songs[0]);
  count();
}

function tell(song) {
  $("status").textContent = song.answer ? `${nameOf(song.answer.language, song.answer.languages)}: see below.` : "";
  if (song.answer) show(song);
  if (song.problem) refuse(song.problem);
}

function progress(songs, word) {
  const done = songs.filter(song => song.answer || song.problem).length;
  $("status").textContent = songs.length > 1 ? `${word} ${done} of ${songs.length} answered.` : word;
  count();
}

function askAll(songs) {
  fill(songs, open);
  const word = songs.some(song => song.file) ? "Listening…" : "Reading…";
  return run(songs, async signal => {
    const waiting = [...songs];
    const one = async () => { while (waiting.length) { await ask(waiting.shift(), signal); progress(songs, word); } };
    progress(songs, word);
    await Promise.all(Array.from({length: AT_ONCE}, one));
  });
}

function askAgain(song, names) {
  song.names = names;
  song.edited = true;
  const songs = all();
  return run([song], signal => { $("status").textContent = "Listening…"; return ask(song, signal); }).then(() => { if (songs.length > 1) count(); });
}

function askList() {
  const songs = $("lines").value.split(/\r?\n/).filter(line => line.trim()).map(line => songOf(null, namesOf(line)));
  if (!songs.length) return refuse({title: "The list is empty", detail: "", remedy: "Paste one song a line."});
  fill(songs, open);
  let n = 0;
  return run(songs, signal => identifyList(songs, (song, answer) => {
    if (answer.code) song.problem = answer; else song.answer = answer;
    refresh(song);
    if (++n % SHOWN_EVERY === 0) progress(songs, "Reading…");
  }, signal));
}

// Columns of a spreadsheet (artist, title, album), or `artist - title`, or a title alone.
function namesOf(line) {
  const columns = line.includes("\t") ? line.split("\t") : line.split(/ [-–—] (.*)/s);
  const [artist, title, album] = columns.length > 1 ? columns : ["", line, ""];
  return {title: (title || "").trim(), artist: artist.trim(), album: (album || "").trim()};
}

// --- the form ---

const typed = () => Object.fromEntries([...NAMES, ...($("words").hidden ? [] : ["lyrics"])].map(name => [name, $(name).value]));

function choose(files) {
  chosen = [...files];
  const size = (chosen.reduce((sum, file) => sum + file.size, 0) / 1e6).toFixed(1) + " MB";
  $("name").textContent = chosen.length > 1 ? `${chosen.length} files` : chosen.length ? chosen[0].name : "Choose audio files";
  $("hint").textContent = chosen.length ? size : "or drop them here: MP3, FLAC, WAV, Ogg, Opus, AIFF, M4A, WebM";
  $("names").hidden = chosen.length > 1;
  $("many").hidden = chosen.length < 2;
  $("clear").hidden = !chosen.length;
}

function submit() {
  const names = chosen.length > 1 ? {title: "", artist: "", album: ""} : typed();
  return askAll(chosen.length ? chosen.map(file => songOf(file, names)) : [songOf(null, names)]);
}

function example(names) {
  choose([]);
  $("file").value = "";
  for (const name of [...NAMES, "lyrics"]) $(name).value = names[name] || "";
  return submit();
}

async function describe() {
  try {
    const response = await fetch("languages", {headers: headers()});
    if (response.ok) {
      const {model, languages, modalities} = await response.json();
      knowLanguages(languages);
      $("words").hidden = !modalities.includes("lyrics");
      $("release").textContent = `Release ${model.family}/${model.release} is served.`;
      const [summary, list] = $("classes").children;
      summary.textContent = `It knows ${languages.length} classes`;
      list.textContent = languages.map(l => `${l.name} (${l.code})`).join(", ");
      $("classes").hidden = false;
      return;
    }
    if (response.status === 401) { $("locked").hidden = false; return; }
    $("release").textContent = "The model is loading…";
  } catch { $("release").textContent = "The server does not answer."; }
  setTimeout(describe, 2000);
}

$("form").addEventListener("submit", event => { event.preventDefault(); submit(); });
$("list").addEventListener("submit", event => { event.preventDefault(); askList(); });
$("stop").addEventListener("click", () => running && running.abort());
$("clear").addEventListener("click", () => { $("file").value = ""; choose([]); });
$("file").addEventListener("change", () => choose($("file").files));
$("key").addEventListener("change", describe);
$("download").addEventListener("click", save);
$("examples").append(...EXAMPLES.map(names => button(names.title, () => example(names), {class: "small"})));
for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, event => {
  event.preventDefault();
  document.body.classList.toggle("over", type === "dragover");
  if (type === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files);
});
describe();
