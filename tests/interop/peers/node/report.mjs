// What a peer client prints: one JSON line on stdout, nothing else.

export async function report(pay, receiptHeader) {
  let line;
  try {
    const response = await pay();
    const text = await response.text();
    let body = text;
    try {
      body = JSON.parse(text);
    } catch {
      // not JSON: the text itself is the body
    }
    const receipt = response.headers.get(receiptHeader);
    line = {
      success: response.ok,
      status: response.status,
      body,
      payment_response: receipt ? JSON.parse(Buffer.from(receipt, "base64").toString("utf8")) : null,
    };
  } catch (failure) {
    console.error(failure);
    line = { success: false, error: String(failure) };
  }
  process.stdout.write(`${JSON.stringify(line)}\n`, () => process.exit(line.success ? 0 : 1));
}
