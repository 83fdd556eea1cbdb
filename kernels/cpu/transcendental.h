// transcendental.h: the exponential, the logarithm, sine and cosine. The C library has several of each, chooses by the processor
// (with fused multiply-add or without) and changes them from version to version; they differ in last bits, and so would
// training. These have the same bits wherever the same table runs. Square roots are exact everywhere.

// exp_of returns e^x, to one unit in the last place; 0 below the range of float.
BS_INLINE float exp_of(float x) {
  double t = x * 1.4426950408889634; // in powers of 2
  if (!(t > -150)) return t == t ? 0 : x;
  if (t > 128) return __builtin_inff();
  double whole = (t + 0x1.8p52) - 0x1.8p52; // rounds to an integer
  double r = (t - whole) * 0.69314718055994531;
  // The series of e^r for |r| <= ln(2)/2: what is left out is below 2^-32 of it.
  double p = 1.0 / 40320;
  const double inverse[] = {1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1};
  for (int i = 0; i < 8; i++) p = p * r + inverse[i];
  uint64_t bits = (uint64_t)(1023 + (int64_t)whole) << 52;
  double scale;
  memcpy(&scale, &bits, 8);
  return (float)(p * scale);
}

// log_of returns ln x of a positive normal number; infinity and NaN stay what they are.
BS_INLINE double log_of(double x) {
  if (!(x < __builtin_inf())) return x;
  uint64_t bits;
  memcpy(&bits, &x, 8);
  int64_t exponent = (int64_t)(bits >> 52) - 1023;
  bits = (bits & 0xFFFFFFFFFFFFFu) | (uint64_t)1023 << 52;
  double m; // x = m 2^exponent
  memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) m *= 0.5, exponent++;
  // ln m = 2 artanh s, with s = (m - 1)/(m + 1), |s| < 0.172: the term left out is below 2^-60 of the sum.
  double s = (m - 1) / (m + 1), z = s * s, p = 1.0 / 21;
  for (int odd = 19; odd > 0; odd -= 2) p = p * z + 1.0 / odd;
  return (double)exponent * 0.69314718055994531 + 2 * s * p;
}

// turn returns sine and cosine of a share of a full turn, 0 <= u < 1.
BS_INLINE void turn(double u, double *sine, double *cosine) {
  int quarter = (int)(4 * u + 0.5);
  double x = 6.28318530717958648 * (u - 0.25 * quarter), z = x * x; // |x| <= pi/4, and the difference is exact
  double s = 1, c = 1;
  for (int k = 18; k > 0; k -= 2) { // the series 1 - z/(k(k+1)) (1 - ...), by products: a division takes longer
    s = 1 - z * (1.0 / (k * (k + 1))) * s;
    c = 1 - z * (1.0 / (k * (k - 1))) * c;
  }
  s *= x;
  switch (quarter & 3) {
  case 0: *sine = s, *cosine = c; return;
  case 1: *sine = c, *cosine = -s; return;
  case 2: *sine = -s, *cosine = -c; return;
  default: *sine = -c, *cosine = s; return;
  }
}
