// Pay PAY_URL with the legacy JavaScript SDK (x402 v1).

import { createSigner, wrapFetchWithPayment } from "x402-fetch";

import { report } from "./report.mjs";

const signer = await createSigner("base-sepolia", process.env.EVM_PRIVATE_KEY);
const fetchWithPayment = wrapFetchWithPayment(fetch, signer);

await report(() => fetchWithPayment(process.env.PAY_URL, { method: "GET" }), "X-PAYMENT-RESPONSE");
