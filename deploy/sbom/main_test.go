package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
)

// The list of this test's own program has all modules in it, with the checksums of go.sum.
func TestListsEveryModule(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := write(&out, program); err != nil {
		t.Fatal(err)
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(&out, cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(*bom.Components), 1+len(info.Deps); got != want || want < 2 {
		t.Errorf("%d components, want %d: the standard library and the modules", got, want)
	}
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range (*bom.Components)[1:] {
		sum, err := hex.DecodeString((*c.Hashes)[0].Value)
		line := c.Name + " " + c.Version + " h1:" + base64.StdEncoding.EncodeToString(sum)
		if err != nil || !strings.Contains(string(sums), line+"\n") {
			t.Errorf("go.sum has no line %q", line)
		}
	}
}

func TestOtherFilesAreRefused(t *testing.T) {
	if err := write(&bytes.Buffer{}, "main.go"); err == nil || !strings.Contains(err.Error(), "main.go") {
		t.Errorf("%v, want an error that names the file", err)
	}
}
