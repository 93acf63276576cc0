// What the hub is asked, and its answers. Without a connection a question waits for one; when the one it was asked on is lost, it
// fails: nobody knows whether it was done, and asking once more could undo what somebody else did since.

import { Refused, TimedOut } from "./errors.js";

/** @typedef {{event: string, args: any[], answer: (answer: any) => void, fail: (why: Error) => void}} Question */

export class Questions {
  #emit;
  #isOpen = false;
  /** For when there is a connection. @type {Set<Question>} */
  #waiting = new Set();
  /** Asked on the present one. @type {Set<Question>} */
  #asked = new Set();

  /** @param {(event: string, args: any[], answered: (answer: any) => void) => void} emit */
  constructor(emit) {
    this.#emit = emit;
  }

  /**
   * The answer, or Refused with what the hub says.
   * @param {string} event @param {any[]} args @param {number} timeoutMs
   * @param {() => {why: string, cause?: Error}} late What more is known when it does not come in time.
   * @returns {Promise<any>}
   */
  ask(event, args, timeoutMs, late) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const what = this.#waiting.delete(question) ? "was not asked" : "did not answer";
        this.#asked.delete(question);
        const { why, cause } = late();
        reject(new TimedOut(`the hub ${what} within ${timeoutMs} ms${why}`, { cause }));
      }, timeoutMs);
      /** @param {() => void} settle */
      const done = (settle) => {
        clearTimeout(timer);
        settle();
      };
      /** @type {Question} */
      const question = {
        event,
        args,
        answer: (answer) => done(() => resolve(answer)),
        fail: (why) => done(() => reject(why)),
      };
      if (this.#isOpen) this.say(question);
      else this.#waiting.add(question);
    });
  }

  /** Asks on the present connection, at once. @param {Question} question */
  say(question) {
    this.#asked.add(question);
    this.#emit(question.event, question.args, (answer) => {
      if (!this.#asked.delete(question)) return;
      answer?.ok ? question.answer(answer) : question.fail(Refused.of(answer));
    });
  }

  /** There is a connection: what waits is asked, in its order. */
  open() {
    this.#isOpen = true;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const question of waiting) this.say(question);
  }

  /** The connection is lost. @param {Error} why What those who wait for an answer are told. */
  cut(why) {
    this.#isOpen = false;
    const asked = [...this.#asked];
    this.#asked.clear();
    for (const question of asked) question.fail(why);
  }

  /** There will be none any more. @param {Error} why */
  end(why) {
    this.cut(why);
    for (const question of this.#waiting) question.fail(why);
    this.#waiting.clear();
  }
}
