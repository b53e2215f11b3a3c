// Options that several scenarios have.

// Next to no delay, and none that depends on chance; every scenario's, where it names no others.
export const QUICK = { reconnectionDelay: 20, reconnectionDelayMax: 40, randomizationFactor: 0 };

// Time enough to do something to the server before the next attempt.
export const UNHURRIED = { reconnectionDelay: 1_000, reconnectionDelayMax: 1_000 };
