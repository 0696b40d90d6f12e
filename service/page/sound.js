// Sound as a WAV file: from the microphone, or from any file that this browser can play. It asks the service nothing.

const TAKEN = /\.(wav|flac)$/i; // by the service, as they are

/** Why there is no sound, in words for the person at the page. */
export class SoundError extends Error {}

/** Records until `stop()` is called, or for so many seconds; `ended` is the WAV file. Throws a SoundError. */
export async function record(seconds) {
  if (!navigator.mediaDevices) throw new SoundError("A browser gives the microphone to pages from this machine or over HTTPS alone: choose a file.");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch(({ message }) => {
    throw new SoundError(`There is no microphone to be had: ${message}`);
  });
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
  recorder.start();
  const timer = setTimeout(() => recorder.stop(), 1000 * seconds);
  const stop = () => recorder.state === "recording" && recorder.stop();
  const ended = stopped.then(() => {
    clearTimeout(timer);
    for (const track of stream.getTracks()) track.stop();
    return wavOf(new Blob(parts), "the recording", seconds);
  });
  return { stop, ended };
}

/** A file as the service takes it. Throws a SoundError. */
export const ofFile = (file) => (TAKEN.test(file.name) ? file : wavOf(file, file.name));

async function wavOf(blob, name, seconds = Infinity) {
  const context = new AudioContext();
  try {
    const sound = await context.decodeAudioData(await blob.arrayBuffer());
    return wav(mono(sound).subarray(0, seconds * sound.sampleRate), sound.sampleRate);
  } catch {
    throw new SoundError(`This browser cannot play ${name}: choose a WAV or FLAC file.`);
  } finally {
    await context.close();
  }
}

/** The mean of all channels. */
function mono(sound) {
  const channels = Array.from({ length: sound.numberOfChannels }, (_, index) => sound.getChannelData(index));
  return channels[0].map((_, at) => channels.reduce((sum, channel) => sum + channel[at], 0) / channels.length);
}

/** Samples from -1 to 1 as a WAV file of 16 bits. */
export function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of what follows, up to the data
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); // bytes a second
  view.setUint16(32, 2, true); // bytes of a sample
  view.setUint16(34, 16, true); // bits of it
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, at) => view.setInt16(44 + 2 * at, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true));
  return new Blob([view], { type: "audio/wav" });
}
