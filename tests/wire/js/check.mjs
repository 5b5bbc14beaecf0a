// Checks docs/wire/ with libraries that are not ours: digests and recovery with viem and with ethers, trees with OpenZeppelin's
// package, schemas with ajv. In: the folder of docs/wire. Out: one JSON line of counts; exit 1 and the first failure on stderr.
import { strict as assert } from "node:assert";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { StandardMerkleTree } from "@openzeppelin/merkle-tree";
import Ajv2020 from "ajv/dist/2020.js";
import * as ethers from "ethers";
import * as viem from "viem";

const folder = process.argv[2];
const vectors = (name) => JSON.parse(readFileSync(join(folder, "vectors", `${name}.json`), "utf8"));
const counts = {};
const count = (name) => (counts[name] = (counts[name] ?? 0) + 1);
const LEAF = ["bytes32", "address", "uint16", "uint256", "uint256"];
const TYPES = {
  Statement:
    "uint16 schema,bytes32 ruleset,bytes32 stream,uint64 sequence,uint32 revision,uint64 fromPosition,bytes32 fromAnchor," +
    "uint64 toPosition,bytes32 toAnchor,uint64 toTime,bytes32 stateRoot,bytes32 evidence,bytes32 previous,bytes32 supersedes," +
    "bytes32 bodyRoot,uint64 leafCount,bytes32 carry,uint256 totalReward,uint256 totalPenalty",
  Replace: "bytes32 stream,uint64 sequence,uint32 revision,bytes32 withdrawn,bytes32 replacement,uint32 ballot",
  Context: "bytes32 statement,bytes32 contextHash",
  Receipt: "bytes32 digest,address attester,uint64 receiptNumber,bytes32 previousReceipt",
  LeaseRequest: "string action,uint256 chainId,address account,bytes32 holder,uint64 ttl,uint64 issuedAt,uint64 lastToken",
  LeaseGrant: "bytes32 request,address account,bytes32 holder,uint64 token,uint64 expiresIn",
};
const fields = (name) => TYPES[name].split(",").map((f) => ({ type: f.split(" ")[0], name: f.split(" ")[1] }));

function typed(domain, primaryType, message) {
  const types = { [primaryType]: fields(primaryType) };
  const wide = { ...domain, chainId: BigInt(domain.chainId) };
  const byViem = viem.hashTypedData({ domain: wide, types, primaryType, message });
  const byEthers = ethers.TypedDataEncoder.hash(wide, types, message);
  assert.equal(byViem, byEthers);
  return byViem;
}

async function signed(digest, { signer, signature }) {
  assert.equal((await viem.recoverAddress({ hash: digest, signature })).toLowerCase(), signer);
  assert.equal(ethers.recoverAddress(digest, signature).toLowerCase(), signer);
  count("signatures");
}

async function typedVectors(name) {
  for (const one of vectors(name).vectors) {
    const { domain, primaryType, message, types } = one.typedData;
    assert.deepEqual(types[primaryType].map((f) => `${f.type} ${f.name}`).join(","), TYPES[primaryType]);
    const digest = typed(domain, primaryType, message);
    assert.equal(digest, one.digest);
    assert.equal(ethers.TypedDataEncoder.hashDomain({ ...domain, chainId: BigInt(domain.chainId) }), one.separator);
    for (const signature of one.signatures) await signed(digest, signature);
    if (name === "context") assert.equal(viem.keccak256(viem.toBytes(one.context)), message.contextHash);
    count(`${name} digests`);
  }
}

function receiptChain() {
  let previous = viem.zeroHash;
  for (const { typedData, digest } of vectors("receipt").vectors) {
    assert.equal(typedData.message.previousReceipt, previous);
    previous = digest;
  }
}

function leafValues(leaf) {
  return [leaf.subject, leaf.asset, leaf.kind, leaf.cumulativeReward, leaf.cumulativePenalty];
}

function trees() {
  for (const { root, leaves } of vectors("tree").vectors) {
    count("trees");
    if (leaves.length === 0) {
      assert.equal(root, viem.zeroHash); // the package refuses an empty tree; the format gives it the zero root
      continue;
    }
    const tree = StandardMerkleTree.of(leaves.map(leafValues), LEAF);
    assert.equal(tree.root, root);
    for (const leaf of leaves) {
      assert.equal(tree.leafHash(leafValues(leaf)), leaf.hash);
      assert.deepEqual(tree.getProof(leafValues(leaf)), leaf.proof);
      assert.ok(StandardMerkleTree.verify(root, LEAF, leafValues(leaf), leaf.proof));
      const other = [...leafValues(leaf)];
      other[3] = other[3] === "7" ? "8" : "7";
      assert.ok(!StandardMerkleTree.verify(root, LEAF, other, leaf.proof));
      count("proofs");
    }
  }
}

function subjects() {
  const forms = { delegation: ["string", "string", "bytes32", "bytes32"], operator: ["string", "string", "bytes32"], validator: ["string", "bytes"] };
  for (const { parts, subject } of vectors("subject").vectors) {
    const types = forms[parts[0]];
    assert.equal(viem.keccak256(viem.encodeAbiParameters(types.map((type) => ({ type })), parts)), subject);
    assert.equal(ethers.keccak256(ethers.AbiCoder.defaultAbiCoder().encode(types, parts)), subject);
    count("subjects");
  }
}

function evidence() {
  let digest = viem.zeroHash;
  for (const { log, evidence } of vectors("evidence").vectors) {
    const content = viem.keccak256(viem.concat([log.address, ...log.topics, log.data]));
    digest = ethers.keccak256(
      ethers.AbiCoder.defaultAbiCoder().encode(
        ["bytes32", "uint64", "bytes32", "uint64", "bytes32"],
        [digest, log.number, log.hash, log.logIndex, content],
      ),
    );
    assert.equal(digest, evidence);
    count("evidence steps");
  }
}

// RFC 8785 for values without fractions: what JSON.stringify writes, with keys in the order of JavaScript's own string comparison.
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.keys(value).sort().map((k) => `${JSON.stringify(k)}:${canonical(value[k])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

const hashText = (text) => viem.keccak256(viem.toBytes(text));

function documents() {
  for (const one of vectors("canonical").vectors) {
    assert.equal(canonical(one.value), one.canonical);
    assert.equal(hashText(one.canonical), one.keccak256);
    count("canonical texts");
  }
  const all = vectors("document");
  for (const { text, id } of all.streamIds) assert.equal(hashText(text), id);
  for (const { ruleset, digest } of all.rulesets) assert.equal(hashText(canonical(ruleset)), digest);
  for (const { document, deployment, streams, frames } of all.vectors) {
    const { name, chains, streams: listed } = document;
    assert.equal(hashText(canonical({ name, chains, streams: listed })), deployment);
    for (const frame of frames) {
      assert.equal(configDigest(document, deployment, streams, frame.signerEpoch), frame.configDigest);
      count("config digests");
    }
  }
}

function configDigest(document, deployment, streams, signerEpoch) {
  const epoch = document.epochs[signerEpoch];
  const pairs = Object.entries(epoch.rulesets).map(([name, ruleset]) => [streams[name], ruleset]).sort();
  return viem.keccak256(
    viem.encodeAbiParameters(
      viem.parseAbiParameters("bytes32, uint64, address[], uint16, bytes32"),
      [deployment, BigInt(signerEpoch), [...epoch.signers].sort(), epoch.k, viem.keccak256(viem.concat(pairs.flat()))],
    ),
  );
}

async function refused() {
  const { digest, signer, accepted, vectors: bad } = vectors("refused");
  await signed(digest, { signer, signature: accepted });
  for (const { signature } of bad) {
    let other;
    try {
      other = ethers.Signature.from(signature); // ethers alone refuses a high s; it reads v 0 and 1 as 27 and 28
      other = ethers.recoverAddress(digest, other).toLowerCase();
    } catch {
      other = null;
    }
    const v = Number.parseInt(signature.slice(-2), 16);
    assert.ok(other !== signer || v < 27);
    count("refused signatures");
  }
}

async function statementFile() {
  const file = vectors("statement");
  const certified = [{ certificate: file.certificate, body: file.body }, ...(file.previous ? [file.previous] : [])];
  for (const { certificate, body } of certified) {
    const digest = typed(
      {
        name: "stakeside",
        version: "1",
        chainId: certificate.chainId,
        verifyingContract: viem.zeroAddress,
        salt: certificate.configDigest,
      },
      "Statement",
      certificate.header,
    );
    assert.equal(digest, certificate.digest);
    for (const vote of certificate.signatures) await signed(digest, vote);
    assert.equal(StandardMerkleTree.of(body.leaves.map(leafValues), LEAF).root, certificate.header.bodyRoot);
    assert.equal(hashText(body.carry), certificate.header.carry);
    assert.equal(canonical(JSON.parse(body.carry)), body.carry);
    count("certificates");
  }
  for (const { chainId, deployment, receipt, signature } of file.receipts) {
    const domain = { name: "stakeside hub", version: "1", chainId, verifyingContract: viem.zeroAddress, salt: deployment };
    const signer = file.document.receipt_keys.filter((key) => key.first_receipt <= Number(receipt.receiptNumber)).at(-1).address;
    await signed(typed(domain, "Receipt", receipt), { signer, signature });
    count("receipts");
  }
}

function schemas() {
  const ajv = new Ajv2020({ strict: true, strictTuples: false, allErrors: true, allowUnionTypes: true });
  const names = readdirSync(folder).filter((name) => name.endsWith(".schema.json"));
  for (const name of names) ajv.addSchema(JSON.parse(readFileSync(join(folder, name), "utf8")));
  const check = (name, value) => {
    const validate = ajv.getSchema(`${name}.schema.json`);
    assert.ok(validate(value), `${name}: ${JSON.stringify(validate.errors)}`);
    count("schema checks");
    for (const key of Object.keys(value)) {
      if (!validate.schema.required.includes(key)) continue;
      const { [key]: _, ...without } = value;
      assert.ok(!validate(without), `${name} must need ${key}`);
    }
    assert.ok(!validate({ ...value, surplus: 1 }), `${name} must refuse unknown fields`);
  };
  const file = vectors("statement");
  const wire = vectors("wire");
  check("statement", file);
  check("document", file.document);
  check("certificate", file.certificate);
  check("body", file.body);
  check("carry", JSON.parse(file.body.carry));
  file.receipts.forEach((receipt) => check("receipt", receipt));
  check("attestation", wire.attestation);
  check("replacement", wire.replacement);
  check("accepted", wire.accepted);
  check("body-chunk", wire.bodyChunk);
  check("problem", wire.problem);
  for (const { sent } of vectors("lease").vectors) check(sent.lease ? "lease-request" : "lease-grant", sent);
  counts.schemas = names.length;
}

for (const name of ["header", "replace", "context", "receipt", "lease"]) await typedVectors(name);
receiptChain();
trees();
subjects();
evidence();
documents();
await refused();
await statementFile();
schemas();
console.log(JSON.stringify({ ok: true, ...counts }));
