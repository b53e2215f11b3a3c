// Differences that several scenarios meet. `rows` are the numbers of docs/compatibility.md that explain one, `of` is the
// transcript: there the lines `official` are replaced by the lines `siod`.

// What is said when no attempt is left.
export const lastFailure = (of, message) => ({
  rows: [2, 3],
  of,
  official: ["reconnect_failed active=true", `reconnect_error ${message} active=true`],
  siod: [`reconnect_error ${message} active=true`, "reconnect_failed active=false"],
});

// How it looks when nothing comes back by itself any more.
export const givenUp = (of) => ({
  rows: [3],
  of,
  official: ["state connected=false active=true id=none recovered=false transport=none buffered=0 pending=0"],
  siod: ["state connected=false active=false id=none recovered=false transport=none buffered=0 pending=0"],
});
