// What OpenAI's own JavaScript client gets of the endpoint: `node openai_client.mjs URL MODEL`.
import OpenAI from "openai";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "How do I list files?" }];
const chat = { model, messages, max_tokens: 12 };
const text = { model, prompt: "list files", max_tokens: 6 };

async function streamed(fields) {
  const seen = { text: "", usage: null, reason: null };
  const options = { stream: true, stream_options: { include_usage: true } };
  const stream = await client.chat.completions.create({ ...chat, ...fields, ...options });
  for await (const chunk of stream) {
    const choice = chunk.choices[0];
    seen.text += choice?.delta?.content ?? "";
    seen.reason = choice?.finish_reason ?? seen.reason;
    seen.usage = chunk.usage ?? seen.usage;
  }
  return seen;
}

async function left() {
  const stream = await client.chat.completions.create({ ...chat, stream: true });
  for await (const chunk of stream) {
    stream.controller.abort();
    return chunk.id;
  }
}

async function refused(fields) {
  try {
    await client.chat.completions.create({ ...chat, ...fields });
  } catch (error) {
    const { name, status, code, param, message } = error;
    return { kind: error.constructor.name, name, status, code, param, message };
  }
}

const drawn = { temperature: 1, seed: 7 };
const { data: answer, response } = await client.chat.completions.create(chat).withResponse();
const echoed = await client.completions.create({ ...text, echo: true, logprobs: 2 });
const listed = [];
for await (const card of client.models.list()) listed.push(card.id);

console.log(
  JSON.stringify({
    whole: answer.choices[0].message.content,
    fingerprint: answer.system_fingerprint,
    release: response.headers.get("x-assay-release"),
    streamed: await streamed({}),
    stopped: await streamed({ stop: "e" }),
    drawn: [await streamed(drawn), await streamed(drawn)],
    several: (await client.chat.completions.create({ ...chat, ...drawn, n: 3 })).choices.length,
    logprobs: (
      await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 2 })
    ).choices[0].logprobs.content.length,
    echoed: echoed.choices[0].text,
    scored: echoed.choices[0].logprobs.token_logprobs.length,
    left: await left(),
    refused: await refused({ n: 1000 }),
    unknown: await refused({ model: "nobody" }),
    listed,
  }),
);
