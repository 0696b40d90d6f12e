// Temperatures. It knows distributions, not models.

// In place of 0, whose logarithm is infinite: the service rounds to 0 only what is smaller still.
const SMALLEST = Number.MIN_VALUE;

/**
 * The distribution at a temperature, from the distribution at temperature 1.
 * log p differs from the logits by one constant, which a softmax ignores: softmax(log p / T) is softmax(logits / T).
 * So one answer of the service holds every temperature, and the slider asks for nothing.
 */
export function soften(probabilities, temperature) {
  const scaled = probabilities.map((p) => Math.log(Math.max(p, SMALLEST)) / temperature);
  const greatest = Math.max(...scaled);
  const weights = scaled.map((value) => Math.exp(value - greatest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** The temperature at a position of the slider, which is log10 T: two significant figures, 0.5 to 50. */
export const temperatureAt = (position) => Number((10 ** position).toPrecision(2));
