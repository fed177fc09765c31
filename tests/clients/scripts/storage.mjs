// @google-cloud/storage for Node. The protocol is that of orders.py.
import { statSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// The script stands apart from the packages: the working directory has them.
const require = createRequire(`${process.cwd()}/`);
const { IdempotencyStrategy, Storage } = require("@google-cloud/storage");
const { OAuth2Client } = require("google-auth-library");

const authClient = new OAuth2Client();
authClient.setCredentials({ access_token: process.env.ACCESS_TOKEN });
const CHUNK = 1024 * 1024;

// An upload without a precondition is not repeated unless it is told to be.
const retryOptions = { idempotencyStrategy: IdempotencyStrategy.RetryAlways };
const storage = new Storage({ projectId: "acme", authClient, retryOptions });
const bucket = storage.bucket(process.argv[2]);

// What is sent in one piece cannot be sent again: the client keeps no more than a chunk. An empty
// file's chunk would be `bytes 0--1/0`.
const chunkOf = (file) => (statSync(file).size > CHUNK ? CHUNK : undefined);

const operations = {
  upload: ({ file, name }) => bucket.upload(file, { destination: name, chunkSize: chunkOf(file) }),
  download: ({ name, file }) => bucket.file(name).download({ destination: file }),
  list: async ({ prefix, delimiter }) => {
    const found = [];
    let query = { prefix, delimiter, maxResults: 2, autoPaginate: false };
    while (query) {
      const [files, next, page] = await bucket.getFiles(query);
      found.push(...files.map((file) => file.name), ...(page.prefixes ?? []));
      query = next;
    }
    return found.sort();
  },
  copy: ({ name, to }) => bucket.file(name).copy(bucket.file(to)),
  move: ({ name, to }) => bucket.file(name).move(bucket.file(to)),
  compose: ({ names, to }) => bucket.combine(names, to),
  delete: ({ names }) => Promise.all(names.map((name) => bucket.file(name).delete())),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: operation, ...order } = JSON.parse(line);
  let answer;
  try {
    const result = await operations[operation](order);
    answer = { result: operation === "list" ? result : null };
  } catch (failure) {
    answer = { error: `${failure.name}: ${failure.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
