/** Log of the binomial tail P(X <= k) of n trials with probability p. */
function tail(k: number, n: number, p: number): number {
  let log = n * Math.log1p(-p);
  let sum = Math.exp(log);
  for (let i = 1; i <= k; i++) {
    log += Math.log((n - i + 1) / i) + Math.log(p) - Math.log1p(-p);
    sum += Math.exp(log);
  }
  return sum;
}

/**
 * The upper end of the one-sided Clopper-Pearson interval: with this confidence the true share is not higher, when `k` of `n`
 * were found. 1 of no trials; with k = 0 and 95 % about 3 / n (the rule of three).
 */
export function upperBound(k: number, n: number, confidence = 0.95): number {
  if (k >= n) return 1;
  let low = k / n;
  let high = 1;
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (tail(k, n, middle) > 1 - confidence) low = middle;
    else high = middle;
  }
  return high;
}
