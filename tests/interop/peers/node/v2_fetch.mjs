// Pay PAY_URL with the official JavaScript SDK (x402 v2).

import { ExactEvmScheme } from "@x402/evm";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

import { report } from "./report.mjs";

const account = privateKeyToAccount(process.env.EVM_PRIVATE_KEY);
const fetchWithPayment = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network: "eip155:*", client: new ExactEvmScheme(account) }],
  spendControls: { allowedAssets: [{ network: process.env.PAY_NETWORK, asset: process.env.PAY_ASSET }] },
});

await report(() => fetchWithPayment(process.env.PAY_URL, { method: "GET" }), "PAYMENT-RESPONSE");
