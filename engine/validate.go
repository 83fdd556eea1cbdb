package engine

import (
	"errors"
	"fmt"
	"slices"

	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/engine/suggest"
	"broadside/models"
)

// Resolve writes out every option of a recipe's methods, and lengthens the recipe where they want it. It refuses
// methods that do not exist, options that make no sense, and methods that conflict.
func Resolve(r *recipe.Recipe) error {
	_, err := openMethods(r)
	return err
}

// FillOptions writes out every option of a recipe's methods and leaves the recipe alone otherwise.
func FillOptions(r *recipe.Recipe) error {
	for i, entry := range r.Methods {
		_, options, err := optionsOf(entry)
		if err != nil {
			return err
		}
		if r.Methods[i], err = recipe.NewMethod(entry.Name, options); err != nil {
			return err
		}
	}
	return nil
}

// Validate looks for all mistakes that a recipe shows without its data: names that do not exist, options of methods,
// methods that conflict. Values of its own keys are checked where it is read. It resolves the recipe.
func Validate(r *recipe.Recipe) error {
	errs := []error{validName(r.Data.Name), validModel(r.Model.Name)}
	if r.Optimizer.Name != "" {
		errs = append(errs, checkOptimizer(r.Optimizer.Name))
	}
	var infos []methods.Info
	for i := range r.Methods {
		m, err := openMethod(r, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		infos = append(infos, m.info)
	}
	return errors.Join(append(errs, methods.CheckConflicts(infos))...)
}

// validName refuses a data set that does not exist; that one is missing is told by whoever reads the recipe.
func validName(name string) error {
	if name == "" || slices.Contains(data.Names(), name) {
		return nil
	}
	return fmt.Errorf("data.name: %w", suggest.Unknown("data set", name, data.Names()))
}

// validModel refuses a network that does not exist or has no such size.
func validModel(name string) error {
	if name == "" {
		return nil
	}
	family, err := models.Lookup(name)
	if err == nil {
		_, err = models.New(name, family.Input, family.Classes())
	}
	if err == nil {
		return nil
	}
	if near := suggest.Nearest(name, models.Names()); near != "" && near != name {
		return fmt.Errorf("model.name: %w; did you mean %s?", err, near)
	}
	return fmt.Errorf("model.name: %w", err)
}
