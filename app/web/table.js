// The songs of a run: a table that fills as answers come, and the same as CSV.
import {$, button, download, el} from "./dom.js";
import {KINDS, kindOf, nameOf, percent, SPECIAL} from "./words.js";

const MAX_ROWS = 500; // shown; the CSV holds all
const COLUMNS = ["song", "language", "iso639_3", "name", "probability", "next", "next_probability", "title", "artist", "album", "error"];
let songs = [];

export const all = () => songs;

export function fill(list, onOpen) {
  songs = list;
  $("rows").replaceChildren(...songs.slice(0, MAX_ROWS).map(song => {
    song.row = el("tr", {}, el("th", {scope: "row"}, song.label), ...["", "", "number", "next"].map(kind => el("td", {class: kind})));
    song.onOpen = () => onOpen(song);
    refresh(song);
    return song.row;
  }));
  $("more").hidden = songs.length <= MAX_ROWS;
  $("more").textContent = `The first ${MAX_ROWS} are shown; the CSV holds all ${songs.length}.`;
  $("songs").hidden = songs.length < 2;
  count();
}

// Shows what became of a song.
export function refresh(song) {
  if (!song.row) return;
  const [name, language, code, probability, next] = song.row.children;
  if (song.answer) {
    const {answer} = song, [first, second] = answer.languages;
    name.replaceChildren(button(song.label, song.onOpen, {class: "row"}));
    $("kind").textContent = KINDS[kindOf(answer)] || "Language";
    language.textContent = answer.language === "und" ? `${SPECIAL.und} (${first.name})` : nameOf(answer.language, answer.languages);
    code.replaceChildren(el("code", {}, answer.language));
    probability.textContent = percent(answer.probability);
    next.textContent = second && answer.language !== "zxx" ? `${second.name} ${percent(second.probability)}` : "";
  } else {
    name.replaceChildren(song.label);
    language.replaceChildren(song.problem ? el("span", {class: "bad"}, song.problem.title) : song.busy ? "…" : "waiting");
    next.textContent = song.problem ? song.problem.remedy : "";
  }
}

export function mark(song) { for (const one of songs) if (one.row) one.row.classList.toggle("shown", one === song); }

export function count() {
  const done = songs.filter(song => song.answer || song.problem).length;
  $("count").textContent = done < songs.length ? `${done} of ${songs.length} answered` : `${songs.length} songs`;
}

// Quoted where needed; text that a spreadsheet would run as a formula is made text.
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function record({label, answer, problem, names}) {
  const given = [names.title, names.artist, names.album];
  if (!answer) return [label, "", "", "", "", "", "", ...given, problem ? problem.code || problem.title : "not_answered"];
  const [first, second] = answer.languages, found = answer.languages.find(l => l.code === answer.language);
  const read = answer.modalities.text.source === "tags" ? answer.modalities.text.values || {} : names;
  return [label, answer.language, found ? found.iso639_3 : answer.language, nameOf(answer.language, answer.languages), answer.probability,
    answer.language === first.code ? second && second.code : first.code, answer.language === first.code ? second && second.probability : first.probability,
    read.title, read.artist, read.album, ""];
}

export function save() {
  const lines = [COLUMNS, ...songs.map(record)].map(row => row.map(cell).join(","));
  download("languages.csv", "\ufeff" + lines.join("\r\n") + "\r\n", "text/csv;charset=utf-8");
}
