package recipe

import (
	"broadside/engine/suggest"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

//go:embed recipes/*.yaml
var builtin embed.FS

// BuiltinNames lists the recipes inside the program, sorted.
func BuiltinNames() []string {
	entries, err := builtin.ReadDir("recipes")
	if err != nil {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	slices.Sort(names)
	return names
}

// Builtin returns the text of a recipe inside the program, comments included.
func Builtin(name string) ([]byte, error) {
	src, err := builtin.ReadFile("recipes/" + strings.TrimSuffix(name, ".yaml") + ".yaml")
	if err != nil {
		return nil, suggest.Unknown("built-in recipe", name, BuiltinNames())
	}
	return src, nil
}

// Load reads the recipe file at path, or the built-in recipe of that name if there is no such file,
// and applies the overrides in sets ("a.b=c") in order.
func Load(path string, sets []string) (*Recipe, error) { return Examine(path, sets, nil) }

// Examine is [Load] with a further check of a recipe that could be read, whose mistakes are told with those of the
// values. An error that begins with a key gets the line of the key.
func Examine(path string, sets []string, check func(*Recipe) error) (*Recipe, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		src, err := ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading recipe: %w", err)
		}
		return parse(path, src, sets, check)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading recipe: %w", err)
	}
	src, builtinErr := Builtin(path)
	if builtinErr != nil {
		return nil, notFound(path, err == nil)
	}
	return parse(strings.TrimSuffix(path, ".yaml")+".yaml", src, sets, check)
}

func notFound(path string, isDir bool) error {
	names := BuiltinNames()
	why := "no such file"
	if isDir {
		why = "this is a folder"
	}
	hint := ""
	if near := suggest.Nearest(path, names); near != "" {
		hint = "did you mean " + near + "? "
	}
	return fmt.Errorf("recipe %s: %s and no built-in recipe of that name; %sbuilt in are %s", clip(path), why, hint, strings.Join(names, ", "))
}

// ReadFile reads a file, but little more than a recipe may have.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxBytes+1))
}

// Parse reads a recipe from text. The name stands for the file in messages, and without its folder
// and extension it is the default of the recipe's own name. The result is resolved and valid.
func Parse(name string, text []byte, sets []string) (*Recipe, error) {
	return parse(name, text, sets, nil)
}

func parse(name string, text []byte, sets []string, check func(*Recipe) error) (*Recipe, error) {
	root, err := parseYAML(name, text, true)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if err := override(root, s); err != nil {
			return nil, err
		}
	}
	r := Default()
	r.Name = strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
	d := decoder{known: paths(Keys())}
	d.decode("", root, reflect.ValueOf(r).Elem())
	if err := d.err(); err != nil {
		return nil, err
	}
	errs := []error{r.Resolve()}
	if check != nil {
		errs = append(errs, check(r))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(placed(name, root, err)...)
	}
	return r, nil
}

// placed puts the file's name before every line of a joined error, and the line of the key that it begins with if the
// file has it. An error that says its place keeps it.
func placed(name string, root *node, err error) (out []error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			out = append(out, placed(name, root, e)...)
		}
		return out
	}
	if strings.HasPrefix(err.Error(), name+":") || strings.HasPrefix(err.Error(), setOrigin) {
		return []error{err}
	}
	at, n := pos{origin: name}, root
	key, _, _ := strings.Cut(err.Error(), " ")
	for _, part := range strings.Split(strings.TrimSuffix(key, ":"), ".") {
		if n = n.find(part); n == nil {
			return []error{fmt.Errorf("%s: %w", at, err)}
		}
	}
	at.line = n.pos.line
	return []error{fmt.Errorf("%s: %w", at, err)}
}

// setOrigin begins the place of an override.
const setOrigin = "--set "

// override applies one "a.b=c" to the tree, as if the line were in the file.
func override(root *node, set string) error {
	origin := setOrigin + set
	path, text, ok := strings.Cut(set, "=")
	keys := strings.Split(path, ".")
	if !ok || slices.Contains(keys, "") {
		return fmt.Errorf("%s: want key=value with a dotted key, like train.epochs=10", origin)
	}
	value, err := parseYAML(origin, []byte(text), false)
	if err != nil {
		return err
	}
	at := pos{origin: origin}
	if keys[0] == "methods" && len(keys) > 1 {
		return setMethod(root, keys[1], keys[2:], value, at)
	}
	return root.set("", keys, value, at)
}

// set stores value under the dotted keys below n, making mappings on the way. A mapping is merged
// into what is there, anything else replaces it.
func (n *node) set(path string, keys []string, value *node, at pos) error {
	if len(keys) == 0 {
		if value.kind != mapping || n.kind != mapping {
			*n = *value
			return nil
		}
		for _, e := range value.entries {
			if err := n.set(path, []string{e.key}, e.value, at); err != nil {
				return err
			}
		}
		return nil
	}
	if n.kind == null {
		*n = node{kind: mapping, pos: at}
	}
	if n.kind != mapping {
		return fmt.Errorf("%s: %s has no keys: it is %s", at, path, n.describe())
	}
	child := n.find(keys[0])
	if child == nil {
		child = &node{pos: at}
		n.entries = append(n.entries, entry{key: keys[0], pos: at, value: child})
	}
	return child.set(join(path, keys[0]), keys[1:], value, at)
}

// setMethod stores value in the entry of a method, adding the method if the list lacks it.
func setMethod(root *node, name string, keys []string, value *node, at pos) error {
	methods := root.find("methods")
	if methods == nil || methods.kind == null || methods.kind == scalar && methods.text == "none" {
		if err := root.set("", []string{"methods"}, &node{kind: list, pos: at}, at); err != nil {
			return err
		}
		methods = root.find("methods")
	}
	if methods.kind != list {
		return fmt.Errorf("%s: methods is not a list: it is %s", at, methods.describe())
	}
	for _, item := range methods.items {
		if item.kind == scalar && item.text == name {
			*item = node{kind: mapping, pos: item.pos, entries: []entry{{key: name, pos: item.pos, value: &node{pos: at}}}}
		}
		if options := item.find(name); options != nil {
			return options.set("methods."+name, keys, value, at)
		}
	}
	item := &node{kind: mapping, pos: at}
	methods.items = append(methods.items, item)
	return item.set("methods", append([]string{name}, keys...), value, at)
}
