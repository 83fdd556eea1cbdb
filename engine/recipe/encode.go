package recipe

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// plainPattern is text that every YAML reader takes as a string without quotes, except for the
// words of isWord.
var plainPattern = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./+-]*$`)

// YAML writes the recipe with every key, in the order of the structs. Reading the result gives the
// same recipe again.
func (r *Recipe) YAML() ([]byte, error) {
	var out bytes.Buffer
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		key := yamlKey(v.Type().Field(i))
		switch field := v.Field(i); {
		case field.Kind() == reflect.Struct:
			fmt.Fprintf(&out, "%s:\n", key)
			writeFields(&out, "  ", field)
		case field.Type() == methodsType:
			writeMethods(&out, key, r.Methods)
		default:
			fmt.Fprintf(&out, "%s: %s\n", key, flow(field))
		}
	}
	// A value set by a program, not read from a file, may be something that cannot be read back.
	if _, err := Parse(r.Name, out.Bytes(), nil); err != nil {
		return nil, fmt.Errorf("writing recipe %s: %w", clip(r.Name), err)
	}
	return out.Bytes(), nil
}

func writeFields(out *bytes.Buffer, indent string, v reflect.Value) {
	for i := range v.NumField() {
		fmt.Fprintf(out, "%s%s: %s\n", indent, yamlKey(v.Type().Field(i)), flow(v.Field(i)))
	}
}

func writeMethods(out *bytes.Buffer, key string, methods []Method) {
	if len(methods) == 0 {
		fmt.Fprintf(out, "%s: []\n", key)
		return
	}
	fmt.Fprintf(out, "%s:\n", key)
	for _, m := range methods {
		fmt.Fprintf(out, "  - %s: %s\n", quote(m.Name), flowMapping(m.options))
	}
}

// flow writes a Go value as YAML on one line.
func flow(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return quote(v.String())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Float32, reflect.Float64:
		return number(v.Float(), v.Type().Bits())
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = flow(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Struct:
		return flowStruct(v)
	}
	return quote(fmt.Sprint(v))
}

func flowStruct(v reflect.Value) string {
	var items []string
	for i := range v.NumField() {
		if key := yamlKey(v.Type().Field(i)); key != "" {
			items = append(items, key+": "+flow(v.Field(i)))
		}
	}
	return "{" + strings.Join(items, ", ") + "}"
}

// flowMapping writes the options of a method; none is an empty mapping.
func flowMapping(n *node) string {
	if n == nil || n.kind == null {
		return "{}"
	}
	return flowNode(n)
}

// flowNode writes a node as it was read. Plain text that is not a number or a boolean may hold
// characters that mean something inside braces, so it is treated as a string.
func flowNode(n *node) string {
	switch n.kind {
	case list:
		items := make([]string, len(n.items))
		for i, item := range n.items {
			items[i] = flowNode(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case mapping:
		items := make([]string, len(n.entries))
		for i, e := range n.entries {
			items[i] = quote(e.key) + ": " + flowNode(e.value)
		}
		return "{" + strings.Join(items, ", ") + "}"
	case null:
		return "null"
	}
	if !n.quoted && (floatPattern.MatchString(n.text) || n.text == "true" || n.text == "false") {
		return n.text
	}
	return quote(n.text)
}

// number writes f with the fewest digits that read back the same, and with a point before an
// exponent, which YAML 1.1 readers need to see a number.
func number(f float64, bits int) string {
	s := strconv.FormatFloat(f, 'g', -1, bits)
	if i := strings.IndexByte(s, 'e'); i >= 0 && !strings.Contains(s, ".") {
		s = s[:i] + ".0" + s[i:]
	}
	return s
}

// quote writes a string, in double quotes unless it is harmless. Go's escapes are also YAML's.
func quote(s string) string {
	if plainPattern.MatchString(s) && !isWord(s) {
		return s
	}
	return strconv.Quote(s)
}

// isWord reports whether some YAML version reads s as something else than a string.
func isWord(s string) bool {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return true
	}
	return false
}
