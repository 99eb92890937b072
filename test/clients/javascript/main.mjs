// A client of App Mesh as programs in JavaScript have them: AWS's SDK for JavaScript v3, unchanged.
//
//     node main.mjs operations SETTINGS
//     node main.mjs identity SETTINGS
//
// The first calls each operation and meets each error of the model, the second calls by what the
// environment says alone. SETTINGS is a JSON file that says where the control plane is. What was seen is printed as one line of JSON for the tests in Python.

import { readFileSync } from "node:fs";
import * as sdk from "@aws-sdk/client-app-mesh";
import { identity } from "./identity.mjs";
import { Run } from "./operations.mjs";

const [verb, file] = process.argv.slice(2);
if (!["operations", "identity"].includes(verb) || !file) {
  console.error("give the command, operations or identity, and the file with the settings");
  process.exit(2);
}
if (verb === "identity") {
  console.log(JSON.stringify(await identity(JSON.parse(readFileSync(file, "utf8")).mesh)));
  process.exit(0);
}
const run = new Run(JSON.parse(readFileSync(file, "utf8")));
await run.all();
const report = {
  client: "aws-sdk-js-v3",
  // The operations that the client has: each has a command.
  model: Object.keys(sdk).filter((name) => name.endsWith("Command") && name !== "$Command").map((name) => name.slice(0, -"Command".length)),
  called: [...run.called].sort(),
  errors: run.errors,
  checks: run.checks,
};
console.log(JSON.stringify(report));
