// One answer in full.
import {correct} from "./api.js";
import {button, copy, el} from "./dom.js";
import {timeline} from "./sound.js";
import {KINDS, SPECIAL, kindOf, meaning, nameOf, percent, sides, used, warning, why} from "./words.js";

const FEW = 5;
const NAMES = ["title", "artist", "album"];
let known = [];

export function knowLanguages(languages) { known = languages; }

function bars(languages) {
  return el("dl", {class: "bars"}, ...languages.map(l => {
    const fill = el("span", {class: "fill"});
    fill.style.width = 100 * l.probability + "%";
    return el("div", {}, el("dt", {}, l.name, " ", el("code", {}, l.code)), el("dd", {class: "track", "aria-hidden": "true"}, fill),
      el("dd", {class: "number"}, percent(l.probability)));
  }));
}

function headline(answer) {
  const special = answer.language in SPECIAL;
  const found = answer.languages.find(l => l.code === answer.language);
  const codes = found && found.iso639_3 ? `${answer.language} · ${found.iso639_3}` : answer.language;
  return el("p", {class: "answer", id: "answer"}, nameOf(answer.language, answer.languages) + (special ? "" : `, ${percent(answer.probability)}`),
    el("code", {}, codes), button("Copy code", event => copy(answer.language, event.target), {class: "small", "aria-label": `Copy the code ${answer.language}`}));
}

function apart(answer) {
  if (answer.language === "zxx") return [el("h2", {}, "Why"), el("p", {id: "why"}, why(answer))];
  const found = sides(answer);
  if (found.length < 2) return [];
  return [el("h2", {}, "Why"), el("p", {id: "why"}, why(answer)),
    el("details", {}, el("summary", {class: "soft"}, "Each apart"),
      el("div", {class: "sides"}, ...found.map(({name, list}) => el("div", {}, el("h2", {}, `The ${name} alone`), bars(list.slice(0, FEW))))))];
}

// Artists, genres and tags.
function plain(kind, list) {
  const heads = [KINDS[kind], "Code", "Probability", ...(kind === "tags" ? ["Applies"] : [])];
  return el("div", {class: "wide"}, el("table", {class: "plain"},
    el("thead", {}, el("tr", {}, ...heads.map((head, i) => el("th", {scope: "col", class: i === 2 ? "number" : ""}, head)))),
    el("tbody", {}, ...list.map(one => el("tr", {}, el("th", {scope: "row"}, one.name), el("td", {}, el("code", {}, one.code)),
      el("td", {class: "number"}, percent(one.probability)), ...(kind === "tags" ? [el("td", {}, one.applies ? "yes" : "no")] : []))))));
}

function listed(title, list, show) {
  const parts = [el("h2", {}, title), show(list.slice(0, FEW))];
  if (list.length > FEW) parts.push(el("details", {}, el("summary", {class: "soft"}, `The other ${list.length - FEW}`), show(list.slice(FEW))));
  return parts;
}

function all(answer) {
  const title = answer.language === "zxx" ? "Languages, if anything were sung" : "Languages";
  return [...(kindOf(answer) ? [] : listed(title, answer.languages, bars)),
    ...Object.keys(KINDS).filter(kind => answer[kind]).flatMap(kind => listed(`${KINDS[kind]}s`, answer[kind], list => plain(kind, list)))];
}

// What was read, to be edited and asked again.
function names(song, askAgain) {
  const {text, lyrics} = song.answer.modalities;
  const read = text.source === "tags" ? text.values || {} : song.names;
  const inputs = NAMES.map(name => el("input", {type: "text", name, autocomplete: "off"}));
  NAMES.forEach((name, i) => { inputs[i].value = read[name] || ""; });
  const words = el("textarea", {name: "lyrics", rows: "4", spellcheck: "false"});
  words.value = song.names.lyrics || "";
  const form = el("form", {id: "tags"}, el("div", {class: "fields"},
    ...NAMES.map((name, i) => el("label", {}, name[0].toUpperCase() + name.slice(1), inputs[i])),
    lyrics && el("label", {class: "whole"}, "Lyrics", words)),
    el("div", {class: "actions"}, el("button", {class: "small"}, "Ask again with these names")));
  form.addEventListener("submit", event => {
    event.preventDefault();
    askAgain(Object.fromEntries([...inputs, ...(lyrics ? [words] : [])].map(input => [input.name, input.value])));
  });
  return [el("h2", {}, text.source === "tags" ? "The file's tags" : "Names"), form];
}

function wrong(answer) {
  const choice = el("select", {"aria-label": "The right language"}, ...[...Object.entries(SPECIAL).filter(([code]) => code !== "und"),
    ...known.map(l => [l.code, l.name])].map(([code, name]) => el("option", {value: code}, name)));
  const said = el("span", {class: "soft", role: "status"});
  const sent = button("Send", async () => {
    try {
      await correct(answer, choice.value);
      said.textContent = "Thank you: the correction is stored.";
    } catch (problem) {
      said.textContent = problem.status === 404 ? "This server collects no corrections." : `${problem.title}. ${problem.remedy}`;
    }
  }, {class: "small"});
  return el("details", {}, el("summary", {class: "soft"}, "Wrong?"), el("div", {class: "actions"}, choice, sent, said));
}

function json(answer) {
  const text = JSON.stringify(answer, (name, value) => name === "requestId" ? undefined : value, 2);
  return el("details", {}, el("summary", {class: "soft"}, "JSON"),
    button("Copy JSON", event => copy(text, event.target), {class: "small"}), el("pre", {tabindex: "0"}, text));
}

export function parts(song, askAgain) {
  const {answer} = song;
  const t = answer.timing_ms, ms = x => x < 10 ? x.toFixed(1) : Math.round(x);
  return [song.file && el("p", {class: "soft"}, song.label), headline(answer), el("p", {}, meaning(answer)),
    el("p", {class: "soft", id: "used"}, used(answer.modalities)),
    ...answer.modalities.audio.warnings.map(w => el("p", {class: "bad"}, warning(w))),
    ...apart(answer), ...timeline(answer, song.file), ...all(answer), ...(song.file ? names(song, askAgain) : []),
    el("h2", {}, "More"), json(answer), ...(answer.requestId && !answer.tags ? [wrong(answer)] : []),
    el("p", {class: "soft"}, `${ms(t.total)} ms: decode ${ms(t.decode)}, read ${ms(t.read)}, queue ${ms(t.queue)}, model ${ms(t.model)}`)].filter(Boolean);
}
