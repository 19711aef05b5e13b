"""What methods are made of: the base trainers, prompt learners, teachers, templates and checks of options."""
