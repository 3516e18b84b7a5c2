//! Which files of a crate import each other in a loop.
//!
//! A file imports another when it uses a name that the other defines, whatever path or re-export leads to it. Modules for
//! tests are left out, and so is what is inside of macros.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A path in the crate, from its root: `crate::a::b` is `["a", "b"]`.
type Names = Vec<String>;

/// A file that is a module.
struct Module {
    path: Names,
    file: PathBuf,
    scope: Scope,
    syntax: syn::File,
}

/// What names mean in a module.
#[derive(Default)]
struct Scope {
    /// Names of items that it defines.
    defines: BTreeSet<String>,
    /// What names in it stand for that come from elsewhere in the crate.
    imports: BTreeMap<String, Names>,
    /// Modules whose public names it has, too.
    globs: Vec<Names>,
}

/// The groups of files that import each other in a loop: each as its imports, with the names that tie the files.
pub(crate) fn loops(src: &Path) -> Vec<Vec<String>> {
    let modules = modules(src);
    let mut edges = BTreeMap::<&Path, BTreeMap<&Path, BTreeSet<String>>>::new();
    for (path, module) in &modules {
        let mut uses = Uses { here: path, scope: &module.scope, found: Vec::new() };
        uses.visit_file(&module.syntax);
        let others = edges.entry(&module.file).or_default();
        for names in uses.found {
            let Some((definer, name)) = definer(&modules, &names, 0) else { continue };
            // A module and those that it is made of are one room: what they have in common stands in it.
            if !path.starts_with(&definer.path) {
                others.entry(&definer.file).or_default().insert(name);
            }
        }
    }
    let name = |file: &Path| file.strip_prefix(src).unwrap_or(file).display().to_string();
    let imports = |group: &BTreeSet<&Path>| {
        let within = group
            .iter()
            .flat_map(|file| edges[*file].iter().map(move |(other, names)| (*file, other, names)));
        let within = within.filter(|(_, other, _)| group.contains(**other));
        within
            .map(|(file, other, names)| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{} -> {}: {}", name(file), name(other), names.join(", "))
            })
            .collect()
    };
    strongly_connected(&edges).iter().map(imports).collect()
}

/// All modules of a crate by their paths; those of a library and of a program beside it share names.
fn modules(src: &Path) -> BTreeMap<Names, Module> {
    let mut modules = BTreeMap::new();
    for root in ["lib.rs", "main.rs"].map(|name| src.join(name)).into_iter().filter(|root| root.exists()) {
        let path = if root.ends_with("main.rs") && src.join("lib.rs").exists() {
            vec!["main".to_owned()]
        } else {
            Names::new()
        };
        read(&root, src, path, &mut modules);
    }
    modules
}

fn read(file: &Path, dir: &Path, path: Names, modules: &mut BTreeMap<Names, Module>) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let syntax = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut scope = Scope::default();
    for item in syntax.items.iter().filter(|item| !is_for_tests(attributes(item))) {
        match item {
            Item::Use(item) => flatten(&item.tree, &Names::new(), &path, &mut scope),
            Item::Mod(child) if child.content.is_none() => {
                let name = child.ident.to_string();
                let nested = dir.join(&name);
                let (file, nested) = match dir.join(format!("{name}.rs")) {
                    file if file.exists() => (file, nested),
                    _ => (nested.join("mod.rs"), nested),
                };
                read(&file, &nested, [path.as_slice(), &[name]].concat(), modules);
            }
            other => scope.defines.extend(name_of(other)),
        }
    }
    modules.insert(path.clone(), Module { path, file: file.to_owned(), scope, syntax });
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// Notes what a `use` brings into a module.
fn flatten(tree: &UseTree, prefix: &Names, here: &Names, scope: &mut Scope) {
    let with = |name: String| [prefix.as_slice(), &[name]].concat();
    match tree {
        UseTree::Path(tree) => flatten(&tree.tree, &with(tree.ident.to_string()), here, scope),
        UseTree::Group(tree) => tree.items.iter().for_each(|tree| flatten(tree, prefix, here, scope)),
        UseTree::Name(tree) if tree.ident == "self" => {
            if let Some(name) = prefix.last().cloned() {
                scope.imports.extend(absolute(prefix, here).map(|path| (name, path)));
            }
        }
        UseTree::Name(tree) => {
            let name = tree.ident.to_string();
            scope.imports.extend(absolute(&with(name.clone()), here).map(|path| (name, path)));
        }
        UseTree::Rename(tree) => {
            let path = absolute(&with(tree.ident.to_string()), here);
            scope.imports.extend(path.map(|path| (tree.rename.to_string(), path)));
        }
        UseTree::Glob(_) => scope.globs.extend(absolute(prefix, here)),
    }
}

/// A path from the root of the crate. One that begins with a plain name is that of a child module, if there is one.
fn absolute(names: &Names, here: &Names) -> Option<Names> {
    let (first, rest) = names.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([here, rest].concat()),
        "super" => {
            absolute(&[&["self".to_owned()], rest].concat(), &here[..here.len().checked_sub(1)?].to_vec())
                .or(Some(here[..here.len() - 1].to_vec()))
        }
        _ => Some([here.as_slice(), names].concat()),
    }
}

/// The module that defines what a path leads to, and what it is called there.
fn definer<'m>(
    modules: &'m BTreeMap<Names, Module>,
    names: &[String],
    depth: usize,
) -> Option<(&'m Module, String)> {
    let module = (0..=names.len()).rev().find(|len| modules.contains_key(&names[..*len]))?;
    let (here, rest) = names.split_at(module);
    let module = &modules[here];
    let name = rest.first()?;
    if module.scope.defines.contains(name) {
        return Some((module, name.clone()));
    }
    if depth > 8 {
        return None;
    }
    if let Some(path) = module.scope.imports.get(name) {
        return definer(modules, &[path.as_slice(), &rest[1..]].concat(), depth + 1);
    }
    let mut globs = module.scope.globs.iter();
    globs.find_map(|glob| definer(modules, &[glob.as_slice(), rest].concat(), depth + 1))
}

/// The paths that a file uses.
struct Uses<'m> {
    here: &'m Names,
    scope: &'m Scope,
    found: Vec<Names>,
}

impl<'m> Visit<'m> for Uses<'m> {
    fn visit_item_mod(&mut self, item: &'m syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'m syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            let mut scope = Scope::default();
            flatten(&item.tree, &Names::new(), self.here, &mut scope);
            self.found.extend(scope.imports.into_values());
        }
    }

    fn visit_path(&mut self, path: &'m syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let found = match names.first().map(String::as_str) {
            Some("crate" | "self" | "super") => absolute(&names, self.here),
            Some(first) => match self.scope.imports.get(first) {
                Some(import) => Some([import.as_slice(), &names[1..]].concat()),
                None if names.len() > 1 => absolute(&names, self.here),
                None => None,
            },
            None => None,
        };
        self.found.extend(found);
        visit::visit_path(self, path);
    }
}

/// The groups of more than one node that can all be reached from each other.
fn strongly_connected<'n>(
    edges: &BTreeMap<&'n Path, BTreeMap<&'n Path, BTreeSet<String>>>,
) -> Vec<BTreeSet<&'n Path>> {
    let reach = |from: &'n Path| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            let next = edges.get(node).into_iter().flat_map(BTreeMap::keys).copied();
            open.extend(next.filter(|next| seen.insert(*next)));
        }
        seen
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|node| (*node, reach(node))).collect();
    let mut groups = BTreeSet::new();
    for (node, seen) in &reached {
        let group: BTreeSet<_> = seen
            .iter()
            .copied()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(node)))
            .collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}
