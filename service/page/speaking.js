// Where one says a word: a button for the microphone, and one for a file. It knows the page's controls, no answers.

import { byId, say } from "./element.js";
import { ofFile, record, SoundError } from "./sound.js";

const SHIFT_S = 0.01; // from one frame to the next

export class Speaking {
  /** `onSound(file, name)` is called with a sound file. */
  constructor(onSound) {
    this.onSound = onSound;
    this.recording = null;
    byId("record").addEventListener("click", () => (this.recording ? this.recording.stop() : this.record()));
    byId("sound").addEventListener("change", ({ target }) => {
      const [file] = target.files;
      if (file) this.take(async () => ofFile(file), file.name);
      target.value = ""; // the same file can be chosen again
    });
  }

  /** What the models hear, `[frames, filters]`; or null where they hear nothing. */
  prepare(audio, shape) {
    this.recording?.stop();
    byId("speaking").hidden = !audio;
    this.seconds = audio && shape[0] * SHIFT_S;
    say(byId("speaking-note"), audio && `A single word, at most ${this.seconds} s. Nothing is kept.`);
  }

  async record() {
    const button = byId("record");
    try {
      await this.take(async () => {
        this.recording = await record(this.seconds);
        button.textContent = "Stop";
        button.setAttribute("aria-pressed", "true");
        say(byId("speaking-note"), "Listening…");
        return this.recording.ended;
      }, "what you said");
    } finally {
      this.recording = null;
      button.textContent = "Say a word";
      button.setAttribute("aria-pressed", "false");
    }
  }

  async take(make, name) {
    try {
      const file = await make();
      if (byId("speaking").hidden) return; // other models were chosen meanwhile
      say(byId("speaking-note"), `Heard: ${name}.`);
      this.onSound(file, name);
    } catch (error) {
      if (!(error instanceof SoundError)) throw error;
      say(byId("speaking-note"), error.message);
    }
  }
}
