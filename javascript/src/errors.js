// What can go wrong, by who must act. Everything that this package rejects with on its own is a LockstepError.

/** The root of all of them. */
export class LockstepError extends Error {
  /** @param {string} [message] @param {{cause?: unknown}} [options] */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The client was closed here; make a new one to go on. */
export class Closed extends LockstepError {}

/** The unique ID cannot be read or kept. The text says where, why, and what to do. */
export class KeyError extends LockstepError {}

/** It did not come in time; the text says whether the hub was asked, so that it may have been done all the same. */
export class TimedOut extends LockstepError {}

/** The connection was lost before the hub answered: what was asked may or may not have been done. */
export class Unanswered extends LockstepError {}

/** The hub said no. `code` is for programs, `text` for people. */
export class Refused extends LockstepError {
  /** @param {string} code @param {string} text */
  constructor(code, text) {
    super(`${text} (${code})`);
    this.code = code;
    this.text = text;
  }

  /**
   * The error for `{code, text}` as the hub says it; `hint` is what more this side knows.
   * @param {any} told @param {string} [hint]
   */
  static of(told, hint = "") {
    const code = String(told?.code ?? "");
    return new (BY_CODE.get(code) ?? Refused)(code, String(told?.text ?? "") + hint);
  }
}

/** Unknown id, wrong unique ID, or revoked: the hub gives one answer for all. */
export class NotProven extends Refused {}

/** This hub takes no new clients, or not without an invite. */
export class NotInvited extends Refused {}

/**
 * Another login with the same id and unique ID took over. This client does not come back by itself: two programs would take
 * over from each other for ever.
 */
export class TakenOver extends Refused {}

/** The id was revoked. */
export class Revoked extends Refused {}

/** Too large, too long, or too many. */
export class LimitExceeded extends Refused {}

/** @type {Map<string, typeof Refused>} */
const BY_CODE = new Map([
  ["not_proven", NotProven],
  ["not_invited", NotInvited],
  ["taken_over", TakenOver],
  ["revoked", Revoked],
  ["limit", LimitExceeded],
]);
