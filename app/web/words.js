// Codes and numbers in plain words.

export const percent = p => p < 0.0005 ? "<\u00a00.1\u00a0%" : p >= 0.9995 ? "100\u00a0%" : (100 * p).toFixed(p < 0.0995 ? 1 : 0) + "\u00a0%";

export const clock = seconds => Math.floor(seconds / 60) + ":" + String(Math.floor(seconds % 60)).padStart(2, "0");

export const SPECIAL = {und: "Not sure", zxx: "Nothing is sung", mul: "Several languages"};

export const listing = words => words.length < 2 ? words.join("") : words.slice(0, -1).join(", ") + " and " + words.at(-1);

export const nameOf = (code, languages) => SPECIAL[code] || (languages.find(l => l.code === code) || {name: code}).name;

const WHY_NOT = {not_given: "there are none", not_trusted: "this release does not use it", silent: "it is silent", no_text_features: "they tell no language"};

const WARNED = {truncated: "The file ends early", damaged: "The file is damaged in places"};

export const warning = w => (WARNED[w.code] || w.code) + (w.at_seconds === null ? "" : ` (at ${clock(w.at_seconds)})`) + `: ${w.detail}.`;

// Which evidence there was.
export function used({audio, text, lyrics}) {
  const parts = [];
  if (audio.used) parts.push(`Listened to ${audio.windows} window${audio.windows === 1 ? "" : "s"} of a song of ${clock(audio.seconds)}.`);
  else if (audio.reason !== "not_given") parts.push(`Sound not used: ${WHY_NOT[audio.reason]}.`);
  if (text.used) parts.push(`Read ${listing(text.fields)}${text.source === "tags" ? " from the file's tags" : ""}.`);
  else parts.push(`Names not used: ${WHY_NOT[text.reason]}.`);
  if (lyrics && lyrics.used) parts.push(`Read the lyrics${lyrics.source === "tags" ? " in the file's tags" : ""}.`);
  else if (lyrics && lyrics.reason !== "not_given") parts.push(`Lyrics not used: ${WHY_NOT[lyrics.reason]}.`);
  return parts.join(" ");
}

// What an answer lists that is no language.
export const KINDS = {genres: "Genre", artists: "Artist", tags: "Tag"};

// The main list of an answer that tells no languages.
export const kindOf = answer => Object.keys(answer).includes("language") ? null : Object.keys(KINDS).find(kind => answer[kind]);

const SIDES = {audio_only: ["sound", "says"], text_only: ["names", "say"], lyrics_only: ["lyrics", "say"]};

// What each modality says alone.
export const sides = ({explanation}) => Object.entries(SIDES).filter(([member]) => (explanation || {})[member])
  .map(([member, [name, verb]]) => ({name, verb, list: explanation[member], first: explanation[member][0]}));

// What modalities say apart, in one sentence; nothing where only one of them was used. Without singing they say nothing.
export function why(answer) {
  if (answer.language === "zxx") {
    const {windows, sung_windows: sung} = answer.modalities.audio;
    const where = sung === null ? "" : `: there seems to be singing in ${sung || "none"} of the ${windows} windows that were listened to`;
    return `Nothing seems to be sung (${percent(answer.probability)} sure)${where}.`;
  }
  const found = sides(answer);
  if (found.length < 2) return "";
  const joined = answer.language in SPECIAL ? "" : `; together: ${nameOf(answer.language, answer.languages)} (${percent(answer.probability)})`;
  const agreed = found.every(({first}) => first.code === found[0].first.code);
  const said = found.map(({name, verb, first}) => `the ${name} alone ${verb} ${agreed ? percent(first.probability) : `${first.name} (${percent(first.probability)})`}`);
  const start = agreed ? `${listing(found.map(({name}) => name))} agree on ${found[0].first.name}: ` : "";
  const sentence = `${start}${said.join(", ")}${joined}.`;
  return sentence[0].toUpperCase() + sentence.slice(1);
}

// The sentence under the headline.
export function meaning(answer) {
  const best = answer.languages[0], applying = (answer.tags || []).filter(tag => tag.applies).map(tag => tag.name);
  if (answer.tags) return applying.length ? `What applies: ${listing(applying)}.` : "No tag reaches its threshold.";
  if (answer.language === "und") return `${best.name} leads with ${percent(best.probability)}: too little for this release to say so.`;
  if (answer.language === "zxx") return "An instrumental, or no voice that could be heard.";
  if (answer.language === "mul") return "Of what is sung: " + listing((answer.sung || []).map(s => `${nameOf(s.code, answer.languages)} ${percent(s.share)}`)) + ".";
  return "";
}
