// Lets look-ups of names live through a names' server that does not answer: what was found last is used meanwhile.
//
// A cluster's services keep their addresses while its own DNS may be slow or away for seconds; without this each request
// of that time would be refused. Given and returned: a function like dns.lookup.
export function remembering(ask) {
  const known = new Map();
  return (name, options, done) => {
    const [chosen, answer] = typeof options === "function" ? [{}, options] : [options, done];
    const key = JSON.stringify([name, chosen]);
    return ask(name, chosen, (error, ...found) => {
      if (!error) {
        known.set(key, found);
        answer(null, ...found);
      } else if (error.code === "EAI_AGAIN" && known.has(key)) {
        answer(null, ...known.get(key));
      } else {
        answer(error, ...found);
      }
    });
  };
}
