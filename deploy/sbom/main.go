// Command sbom writes the bill of materials of a Go program in CycloneDX's JSON format: its modules with versions and
// checksums, as the Go linker has put them into the program.
package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sbom PROGRAM")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// write lists the modules of a program.
func write(w io.Writer, program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading what %s was built of: %w", program, err)
	}
	main, err := component(&info.Main, cyclonedx.ComponentTypeApplication)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &main}
	// The standard library is a part of every Go program, in the version of the compiler.
	golang := debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}
	needs, refs := []cyclonedx.Component{}, []string{}
	for _, m := range append([]*debug.Module{&golang}, info.Deps...) {
		c, err := component(m, cyclonedx.ComponentTypeLibrary)
		if err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		needs, refs = append(needs, c), append(refs, c.BOMRef)
	}
	bom.Components = &needs
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}

// component describes a module, or what replaces it. Its checksum is the SHA-256 of go.sum: of the names and hashes of
// the module's files.
func component(m *debug.Module, kind cyclonedx.ComponentType) (cyclonedx.Component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	url := "pkg:golang/" + m.Path
	if m.Version != "(devel)" { // built outside of version control
		url += "@" + m.Version
	}
	c := cyclonedx.Component{BOMRef: url, Type: kind, Name: m.Path, Version: m.Version, PackageURL: url}
	if m.Sum == "" { // the program's own module
		return c, nil
	}
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil {
		return c, fmt.Errorf("checksum of module %s: %w", m.Path, err)
	}
	c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	return c, nil
}
