package recipe

import (
	"errors"
	"fmt"
	"reflect"
)

// Method is one entry of the methods list: a name and its options as they were written. Options keep
// their positions, so that the method that decodes them reports mistakes by line.
type Method struct {
	Name    string
	options *node
	pos     pos
}

// NewMethod builds an entry from a struct with yaml tags, or a pointer to one; nil means no options.
// It is how a program makes a recipe without a file, and how the resolved recipe gets every option
// of a method written out.
func NewMethod(name string, options any) (Method, error) {
	m := Method{Name: name, pos: pos{origin: "methods." + name}}
	m.options = &node{pos: m.pos}
	if options == nil {
		return m, nil
	}
	v := reflect.Indirect(reflect.ValueOf(options))
	if v.Kind() != reflect.Struct {
		return Method{}, fmt.Errorf("options of method %s: want a struct, got %T", name, options)
	}
	n, err := parseYAML(m.pos.origin, []byte(flow(v)), false)
	if err != nil {
		return Method{}, fmt.Errorf("writing the options of method %s: %w", name, err)
	}
	m.options = n
	return m, nil
}

// Pos says where the method was written: "file.yaml:12", or the override that added it.
func (m Method) Pos() string { return m.pos.String() }

// Decode stores the options of m in into, a pointer to a struct with yaml tags that holds the
// defaults. Unknown keys and wrong types are reported with their place and the path
// methods.<name>.<key>.
func Decode(m Method, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("decoding method %s: want a pointer to a struct, got %T", m.Name, into)
	}
	if m.options == nil {
		return nil
	}
	prefix := "methods." + m.Name
	d := decoder{known: paths(KeysOf(prefix, into))}
	d.decode(prefix, m.options, v.Elem())
	return d.err()
}

// methods reads the list of methods: each item is a mapping with the method's name as its only key,
// or the name alone.
func (d *decoder) methods(path string, n *node) []Method {
	if n.kind == scalar && n.text == "none" {
		return nil
	}
	if n.kind != list {
		d.mismatch(path, n, "a list like '- absa: {patience: 10}'")
		return nil
	}
	var out []Method
	seen := map[string]bool{}
	for i, item := range n.items {
		m, err := methodOf(item)
		if err != nil {
			d.fail(item.pos, "%s[%d]: %v", path, i, err)
			continue
		}
		if seen[m.Name] {
			d.fail(m.pos, "%s: %s is listed twice: merge its options into one entry", path, m.Name)
			continue
		}
		seen[m.Name] = true
		out = append(out, m)
	}
	return out
}

func methodOf(n *node) (Method, error) {
	switch {
	case n.kind == scalar && plainPattern.MatchString(n.text):
		return Method{Name: n.text, options: &node{pos: n.pos}, pos: n.pos}, nil
	case n.kind == mapping && len(n.entries) == 1:
		e := n.entries[0]
		if !plainPattern.MatchString(e.key) {
			return Method{}, errors.New("want a method's name, got " + clip(e.key))
		}
		if e.value.kind != mapping && e.value.kind != null {
			return Method{}, fmt.Errorf("options of %s: want a mapping like {key: value}, got %s", e.key, e.value.describe())
		}
		return Method{Name: e.key, options: e.value, pos: e.pos}, nil
	case n.kind == mapping && len(n.entries) > 1:
		return Method{}, fmt.Errorf("want one method, got %d keys: start each method with '- '", len(n.entries))
	}
	return Method{}, fmt.Errorf("want 'name: {options}', got %s", n.describe())
}
