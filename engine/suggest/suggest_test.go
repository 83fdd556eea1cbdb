package suggest

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"resnet20", "resnet18", "wrn-16-4", "c1", "c2", "epochs", "lr"}
	for word, want := range map[string]string{
		"resnet-20": "resnet20", "ResNet18": "resnet18", "resent20": "resnet20", "epoch": "epochs", "ecpohs": "epochs",
		"C1": "c1", "lx": "lr", "vgg": "", "": "", "completely different": "", strings.Repeat("a", 1000): "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", word, got, want)
		}
	}
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abcd", "acbd", 1}} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestUnknown(t *testing.T) {
	for name, want := range map[string]string{
		"absaa": `unknown method "absaa"; did you mean absa?`,
		"zzzzz": `unknown method "zzzzz": want one of abs, absa`,
	} {
		if got := Unknown("method", name, []string{"abs", "absa"}).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
