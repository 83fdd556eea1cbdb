package recipe

import (
	"broadside/engine/suggest"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
)

// maxErrors bounds how many mistakes of one file are reported at once.
const maxErrors = 20

// Decimal numbers only: Go's parsers would also take 0x10, inf and nan.
var (
	intPattern   = regexp.MustCompile(`^[-+]?[0-9]+$`)
	floatPattern = regexp.MustCompile(`^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
)

var methodsType = reflect.TypeFor[[]Method]()

// decoder fills a struct from a node and collects every mistake on the way.
type decoder struct {
	known []string // dotted paths of all keys, for suggestions across sections
	errs  []error
}

func (d *decoder) fail(at pos, format string, args ...any) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
	}
}

func (d *decoder) err() error { return errors.Join(d.errs...) }

// mismatch reports a value of the wrong type.
func (d *decoder) mismatch(path string, n *node, want string) {
	d.fail(n.pos, "%s: want %s, got %s", path, want, n.describe())
}

// decode stores n in v. A null leaves v, and so its default, alone.
func (d *decoder) decode(path string, n *node, v reflect.Value) {
	if n.kind == null {
		return
	}
	if v.Type() == methodsType {
		v.Set(reflect.ValueOf(d.methods(path, n)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.decodeStruct(path, n, v)
	case reflect.Slice:
		d.decodeSlice(path, n, v)
	default:
		d.decodeScalar(path, n, v)
	}
}

func (d *decoder) decodeStruct(path string, n *node, v reflect.Value) {
	if n.kind != mapping {
		if path == "" {
			path = "the recipe"
		}
		d.mismatch(path, n, "a mapping of keys")
		return
	}
	fields := fieldsOf(v.Type())
	for _, e := range n.entries {
		if i, ok := fields.index[e.key]; ok {
			d.decode(join(path, e.key), e.value, v.Field(i))
			continue
		}
		d.unknown(path, e, fields.names)
	}
}

// unknown reports a key that does not exist, with the nearest one of its section or the same key of
// another section.
func (d *decoder) unknown(path string, e entry, names []string) {
	hint := ""
	if near := suggest.Nearest(e.key, names); near != "" {
		hint = join(path, near)
	} else {
		hint = sameKeyElsewhere(e.key, d.known)
	}
	message := "unknown key " + join(path, printable(e.key))
	if hint != "" {
		message += "; did you mean " + hint + "?"
	}
	d.fail(e.pos, "%s", message)
}

func (d *decoder) decodeSlice(path string, n *node, v reflect.Value) {
	if n.kind == scalar && n.text == "none" {
		v.Set(reflect.Zero(v.Type()))
		return
	}
	if n.kind != list {
		d.mismatch(path, n, typeName(v.Type())+" like [a, b], or none")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item.kind == null {
			d.mismatch(at, item, typeName(v.Type().Elem()))
			continue
		}
		d.decode(at, item, out.Index(i))
	}
	v.Set(out)
}

func (d *decoder) decodeScalar(path string, n *node, v reflect.Value) {
	if n.kind != scalar || !setScalar(n, v) {
		d.mismatch(path, n, typeName(v.Type()))
	}
}

// setScalar stores the text of n in v and reports whether it fits v's type.
func setScalar(n *node, v reflect.Value) bool {
	if v.Kind() == reflect.String {
		v.SetString(n.text)
		return true
	}
	if n.quoted {
		return false
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(n.text == "true")
		return n.text == "true" || n.text == "false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.text, 10, v.Type().Bits())
		v.SetInt(i)
		return err == nil && intPattern.MatchString(n.text)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(n.text, 10, v.Type().Bits())
		v.SetUint(u)
		return err == nil && intPattern.MatchString(n.text)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(n.text, v.Type().Bits())
		v.SetFloat(f)
		return err == nil && !math.IsInf(f, 0) && floatPattern.MatchString(n.text)
	}
	return false
}

// typeName names a Go type for the writer of a recipe.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "a whole number, 0 or more"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list" + listOf(t.Elem())
	case reflect.Struct:
		return "a mapping"
	}
	return "a value that a recipe cannot hold (" + t.String() + ")"
}

func listOf(t reflect.Type) string {
	if t == methodsType.Elem() {
		return " of methods"
	}
	switch t.Kind() {
	case reflect.String:
		return " of names"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return " of whole numbers"
	case reflect.Float32, reflect.Float64:
		return " of numbers"
	}
	return ""
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
