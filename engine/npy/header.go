package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxDims is the most dimensions that NumPy has had.
const maxDims = 64

// scanner walks over the text of a header.
type scanner struct{ rest string }

// skip passes over the token and reports whether it came next.
func (s *scanner) skip(token string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(s.rest, " \t\n"), token)
	if ok {
		s.rest = rest
	}
	return ok
}

// quoted reads a string without escapes.
func (s *scanner) quoted() (string, bool) {
	for _, quote := range []string{"'", `"`} {
		if s.skip(quote) {
			text, rest, ok := strings.Cut(s.rest, quote)
			s.rest = rest
			return text, ok
		}
	}
	return "", false
}

// parse reads the dictionary of a header.
func parse(text string) (*Header, error) {
	h, s, seen := &Header{}, &scanner{text}, map[string]bool{}
	if !s.skip("{") {
		return nil, errors.New("has a damaged header: it is no dictionary")
	}
	for !s.skip("}") {
		key, ok := s.quoted()
		if !ok || !s.skip(":") || seen[key] {
			return nil, errors.New("has a damaged header: a key is missing or there twice")
		}
		seen[key] = true
		if err := h.take(s, key); err != nil {
			return nil, err
		}
		if !s.skip(",") && !strings.HasPrefix(strings.TrimLeft(s.rest, " \t\n"), "}") {
			return nil, fmt.Errorf("has a damaged header: no comma after %s", key)
		}
	}
	if strings.TrimSpace(s.rest) != "" || len(seen) != 3 {
		return nil, errors.New("has a damaged header: descr, fortran_order and shape are needed, and nothing else")
	}
	return h, nil
}

// take reads the value of a key.
func (h *Header) take(s *scanner, key string) (err error) {
	switch key {
	case "descr":
		return h.takeType(s)
	case "fortran_order":
		if s.skip("True") {
			return errors.New("is in Fortran order; save numpy.ascontiguousarray(array)")
		}
		if !s.skip("False") {
			return errors.New("has a damaged header: fortran_order is neither True nor False")
		}
		return nil
	case "shape":
		h.Shape, err = s.tuple()
		return err
	}
	return fmt.Errorf("has a damaged header: unknown key %.40q", key)
}

// takeType reads the type of the elements, as in '<i8'.
func (h *Header) takeType(s *scanner) error {
	text, ok := s.quoted()
	if !ok {
		return errors.New("holds records, not numbers")
	}
	h.Order = binary.LittleEndian
	if strings.HasPrefix(text, ">") {
		h.Order = binary.BigEndian
	}
	if len(text) == 3 {
		switch h.Type = text[1:]; h.Type {
		case "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8":
			if strings.ContainsRune("<>|", rune(text[0])) {
				return nil
			}
		}
	}
	return fmt.Errorf("holds elements of type %.40q; whole numbers of 1 to 8 bytes and floats of 4 or 8 are read", text)
}

// tuple reads the numbers of a shape.
func (s *scanner) tuple() ([]int, error) {
	damaged := errors.New("has a damaged header: the shape is no tuple of numbers")
	if !s.skip("(") {
		return nil, damaged
	}
	shape := []int{}
	for !s.skip(")") {
		s.skip("") // the space before a number
		digits := len(s.rest) - len(strings.TrimLeft(s.rest, "0123456789"))
		n, err := strconv.Atoi(s.rest[:digits])
		s.rest = s.rest[digits:]
		if err != nil || len(shape) == maxDims || !s.skip(",") && !strings.HasPrefix(strings.TrimLeft(s.rest, " \t\n"), ")") {
			return nil, damaged
		}
		shape = append(shape, n)
	}
	return shape, nil
}
