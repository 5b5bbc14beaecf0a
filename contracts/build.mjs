// Compiles Staking.sol to artifacts/Staking.json. `--check` rebuilds and compares byte for byte instead of writing.
//
// Same source, same compiler, same settings: same bytes. The metadata trailer, which would embed a source hash, is left out.
// solc is looked for as Node does it (contracts/node_modules, NODE_PATH) and then in the project's .cache/npm.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const NAME = "Staking";
const COMPILER = "0.8.30+commit.73712a01";
const SETTINGS = {
  evmVersion: "shanghai",
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  optimizer: { enabled: true, runs: 200 },
};
const MISSING_COMPILER = 3;

const here = dirname(fileURLToPath(import.meta.url));
const artifact = join(here, "artifacts", `${NAME}.json`);

function loadCompiler() {
  const roots = [import.meta.url, join(here, "..", ".cache", "npm", "package.json")];
  for (const root of roots) {
    try {
      return createRequire(root)("solc");
    } catch (error) {
      if (error.code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  console.error("npm's solc is not installed: run `npm ci` in contracts/ first, or name its folder in NODE_PATH");
  process.exit(MISSING_COMPILER);
}

function build() {
  const solc = loadCompiler();
  if (!solc.version().startsWith(COMPILER)) {
    throw new Error(`this is solc ${solc.version()}, the artifact needs ${COMPILER}: run \`npm ci\` in contracts/`);
  }
  const source = readFileSync(join(here, `${NAME}.sol`), "utf8");
  const input = {
    language: "Solidity",
    sources: { [`${NAME}.sol`]: { content: source } },
    settings: {
      ...SETTINGS,
      outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const problems = output.errors ?? [];
  if (problems.length > 0) throw new Error(problems.map((p) => p.formattedMessage).join("\n"));
  const contract = output.contracts[`${NAME}.sol`][NAME];
  const content = {
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
    compiler: COMPILER,
    settings: SETTINGS,
    sourceHash: `sha256:${createHash("sha256").update(source).digest("hex")}`,
  };
  return `${JSON.stringify(content, null, 1)}\n`;
}

const built = build();
if (process.argv.includes("--check")) {
  const committed = existsSync(artifact) ? readFileSync(artifact, "utf8") : "";
  if (committed !== built) {
    console.error(`artifacts/${NAME}.json is not what Staking.sol compiles to: run \`node contracts/build.mjs\` and commit it`);
    process.exit(1);
  }
  console.log(`artifacts/${NAME}.json is what ${NAME}.sol compiles to`);
} else {
  mkdirSync(dirname(artifact), { recursive: true });
  writeFileSync(artifact, built);
  console.log(`wrote artifacts/${NAME}.json`);
}
