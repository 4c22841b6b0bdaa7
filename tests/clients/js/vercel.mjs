// The Vercel AI SDK, asked over standard input: one JSON job a line, answered by lines of JSON on standard output.
// {id, client, kind: "ask" | "loop", model, stream, thinking} -> {id, seen: text}* then {id, said} or {id, failed}.
import { createInterface } from 'node:readline';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';

const { URL_OF_GATEWAY: url, KEY: apiKey, QUESTION: prompt, TOOL: name, DESCRIPTION: description } = process.env;
const schema = JSON.parse(process.env.SCHEMA);
const answers = JSON.parse(process.env.ANSWERS);

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey });
const google = createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey });
const compatible = createOpenAICompatible({ name: 'door', baseURL: `${url}/v1`, apiKey, includeUsage: true });

const clients = {
  'ai-openai': [(model) => openai.chat(model), {}],
  'ai-responses': [
    (model) => openai.responses(model),
    // it knows by a model's name that it reasons; an alias has to be introduced
    { openai: { forceReasoning: true, reasoningEffort: 'low', reasoningSummary: 'auto', store: false } },
  ],
  'ai-anthropic': [(model) => anthropic(model), { anthropic: { thinking: { type: 'enabled', budgetTokens: 1024 } } }],
  'ai-google': [
    (model) => google(model),
    { google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 1024 } } },
  ],
  'ai-compatible': [(model) => compatible(model), { door: { reasoningEffort: 'low' } }],
};

const tools = {
  [name]: tool({ description, inputSchema: jsonSchema(schema), execute: async ({ city }) => answers[city] }),
};

globalThis.AI_SDK_LOG_WARNINGS = ({ warnings }) => {
  throw new Error(`warnings: ${JSON.stringify(warnings)}`);
};

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function streamed(id, settings) {
  const failures = [];
  const result = streamText({ ...settings, onError: ({ error }) => failures.push(error) });
  for await (const part of result.fullStream) {
    if (part.type === 'text-delta') tell({ id, seen: part.text });
    if (part.type === 'error') failures.push(part.error);
  }
  if (failures.length) throw failures[0];
  return result;
}

async function answer({ id, client, kind, model, stream, thinking }) {
  const [make, options] = clients[client];
  const settings = { model: make(model), prompt, maxRetries: 0, maxOutputTokens: 2048 };
  if (kind === 'loop') Object.assign(settings, { tools, stopWhen: isStepCount(5) });
  if (thinking) settings.providerOptions = options;
  else if (client === 'ai-responses') settings.providerOptions = { openai: { store: false } };
  const result = stream ? await streamed(id, settings) : await generateText(settings);
  const steps = await result.steps;
  const warnings = steps.flatMap((step) => step.warnings ?? []);
  if (warnings.length) throw new Error(`warnings: ${JSON.stringify(warnings)}`);
  const last = steps.at(-1);
  const { inputTokens, inputTokenDetails, outputTokens, outputTokenDetails } = last.usage;
  return {
    text: last.text,
    finish: last.finishReason,
    input: inputTokens,
    output: outputTokens,
    cached: inputTokenDetails.cacheReadTokens ?? 0,
    reasoning: outputTokenDetails.reasoningTokens ?? null,
    thought: steps[0].reasoningText ?? '',
  };
}

tell({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  try {
    tell({ id: job.id, said: await answer(job) });
  } catch (error) {
    const status = APICallError.isInstance(error) ? (error.statusCode ?? null) : null;
    tell({ id: job.id, failed: { name: error?.name ?? typeof error, message: String(error?.message ?? JSON.stringify(error)), status } });
  }
}
