"""The building blocks of methods: base trainers, prompt learners, teachers, templates and checks of options."""
