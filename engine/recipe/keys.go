package recipe

import (
	"reflect"
	"strings"
)

// KeyDoc documents one key of a recipe.
type KeyDoc struct {
	Path    string `json:"path"`    // dotted: "batch.size"
	Type    string `json:"type"`    // "a whole number", "a list of names", ...
	Default string `json:"default"` // as it would be written in YAML, or in words
	Doc     string `json:"doc"`
}

// Keys documents every key of a recipe, in the order of the file.
func Keys() []KeyDoc { return KeysOf("", Default()) }

// KeysOf documents the keys of a struct whose fields have yaml and doc tags, such as the options of
// a method; v is the struct, or a pointer to it, filled with its defaults. Paths start with prefix.
func KeysOf(prefix string, v any) []KeyDoc {
	return appendKeys(nil, prefix, reflect.Indirect(reflect.ValueOf(v)))
}

func appendKeys(out []KeyDoc, prefix string, v reflect.Value) []KeyDoc {
	if v.Kind() != reflect.Struct {
		return out
	}
	for i := range v.NumField() {
		field, key := v.Type().Field(i), ""
		if key = yamlKey(field); key == "" {
			continue
		}
		path := join(prefix, key)
		if v.Field(i).Kind() == reflect.Struct {
			out = appendKeys(out, path, v.Field(i))
			continue
		}
		def, ok := field.Tag.Lookup("default")
		if !ok {
			def = flow(v.Field(i))
		}
		out = append(out, KeyDoc{Path: path, Type: typeName(field.Type), Default: def, Doc: field.Tag.Get("doc")})
	}
	return out
}

// fields are the keys of a struct: in order, and with their field numbers.
type fields struct {
	names []string
	index map[string]int
}

func fieldsOf(t reflect.Type) fields {
	f := fields{index: make(map[string]int, t.NumField())}
	for i := range t.NumField() {
		if key := yamlKey(t.Field(i)); key != "" {
			f.names = append(f.names, key)
			f.index[key] = i
		}
	}
	return f
}

// yamlKey returns the key of a field, or "" for a field that is not part of the file.
func yamlKey(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if key == "-" || !f.IsExported() {
		return ""
	}
	return key
}

// paths lists the dotted paths of docs.
func paths(docs []KeyDoc) []string {
	out := make([]string, len(docs))
	for i, d := range docs {
		out[i] = d.Path
	}
	return out
}

// sameKeyElsewhere returns the only known path that ends in key, for a key that was put into the
// wrong section.
func sameKeyElsewhere(key string, known []string) string {
	found := ""
	for _, path := range known {
		if path != key && !strings.HasSuffix(path, "."+key) {
			continue
		}
		if found != "" {
			return ""
		}
		found = path
	}
	return found
}

// printable keeps a key readable in a message: an odd one is quoted and clipped.
func printable(key string) string {
	if len(key) <= 60 && plainPattern.MatchString(key) {
		return key
	}
	return clip(key)
}
