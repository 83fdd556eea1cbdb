// each.h: loops over elements, and the reading of arguments, shared by every kernel family.

// arg_at returns argument i as a pointer to T.
template <class T>
BS_INLINE T *arg_at(void *const *arg, int i) {
  return (T *)arg[i];
}

// How many lanes an operation touches: all of them, or the first n. Passing one of the two types
// to a generic lambda compiles its body once for whole vectors and once for a tail.
struct whole {};
struct first {
  int n;
};

BS_INLINE vf get(const float *p, whole) { return load(p); }
BS_INLINE vf get(const float *p, first part) { return load_partial(p, part.n); }
BS_INLINE vi get(const int32_t *p, whole) { return load(p); }
BS_INLINE vi get(const int32_t *p, first part) { return load_partial(p, part.n); }
BS_INLINE void put(float *p, vf v, whole) { store(p, v); }
BS_INLINE void put(float *p, vf v, first part) { store_partial(p, v, part.n); }
BS_INLINE void put(int32_t *p, vi v, whole) { store(p, v); }
BS_INLINE void put(int32_t *p, vi v, first part) { store_partial(p, v, part.n); }

// each calls op(lanes, i) for vectors at i = first, first + VW, first + 2 VW, ... that cover a range of elements.
template <class Op>
BS_INLINE void each(range r, const Op &op) {
  int64_t i = r.first;
  for (; i + VW <= r.end; i += VW) op(whole{}, i);
  if (i < r.end) op(first{(int)(r.end - i)}, i);
}
template <class Op>
BS_INLINE void each(int64_t count, const Op &op) {
  each(range{0, count}, op);
}

// positive keeps v where y > 0 and is zero elsewhere: the derivative of ReLU.
BS_INLINE vf positive(vf y, vf v) { return select(y > zero(), v, zero()); }
