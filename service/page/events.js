// Server-sent events from a stream of bytes: EventSource cannot send a key. It knows the format, not what is told.

/** Each event as `{ event, data }`, its data parsed as JSON; comments, which keep a connection alive, are left out. */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = fieldsOf(block);
      if (fields.data) yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

const fieldsOf = (block) => Object.fromEntries(block.split("\n").map((line) => split(line)));

function split(line) {
  const colon = line.indexOf(":");
  return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
}
